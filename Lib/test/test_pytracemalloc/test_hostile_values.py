"""Snapshots that load and hold values that no tracer wrote: each command shows
them, or says in one line that it cannot."""

import datetime
import json
import random
import time
import unittest

import tracemalloc
from pytracemalloc.reporters import FORMATS
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.hostile import text_command
from test.test_pytracemalloc.otlp_case import formats_here

RAW = [(0, 10 ** 12, (('/app/a.py', 2), ('/app/b.py', 4)), 3),
       (7, 2 ** 64 - 1, (('', 0),), None), (0, 0, (('\0', 2 ** 31 - 2),), 1)]
BAD = ('x', -5, 2 ** 70, 10 ** 400, 1.5, float('nan'), float('inf'), None,
       True, [], {}, [1], [[1, 2, 3]], {'a': {'b': [None]}}, '\x1b[31m')
NAMES = ('untraced', 'folded', 'pruned', 'process_memory', 'metrics',
         'tracemalloc_memory', 'user_data', 'anything')
MOMENTS = (datetime.datetime.min, datetime.datetime.max,
           datetime.datetime(1969, 1, 1),
           datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc))


class ValuesTest(CommandCase):
    def dump(self, name='x', format='native', **attributes):
        snapshot = tracemalloc.Snapshot(RAW, 2)
        vars(snapshot).update(attributes)
        snapshot.dump(name, format)

    def check(self, by='line'):
        for format in formats_here(self, FORMATS):
            status, output, errors = self.call(
                'report', 'x', '--format', format, '--by', by, '-f', '-o',
                'out')
            self.assertEqual((status, errors), (0, ''), format)
            if format == 'json':
                with open('out') as file:
                    json.load(file, parse_constant=self.fail)
        self.ok('diff', 'old', 'x', '--by', by)

    def check_text(self):
        for legacy in False, True:
            status, text = text_command('x', 'x', legacy=legacy)
            self.assertNotIn('Traceback (most', text)
            if status:
                self.assertRegex(text.splitlines()[-1], '^error: x: damaged')
            for line in text.split('\n'):
                self.assertTrue(line.isprintable(), ascii(line))

    def setUp(self):
        super().setUp()
        self.dump('old')

    def test_metadata(self):
        for name in NAMES:
            for value in BAD:
                with self.subTest(name, value=value):
                    self.dump(metadata={name: value})
                    self.ok('report', 'x')
                    self.check_text()
        self.dump(metadata={name: BAD[5] for name in NAMES}
                  | {str(number): value for number, value in enumerate(BAD)})
        self.check()

    def test_metrics(self):
        for value in BAD:
            for metric in ([value, 'int'], [value, 'size'], [value, 'percent'],
                           [1, value], value, [1e308, 'percent'],
                           [1e308, 'size']):
                with self.subTest(metric):
                    self.dump(metadata={'metrics': {'a': metric}})
                    self.check_text()
            self.dump(metadata={'user_data': [['a', 'size', value]]})
            self.check_text()

    def test_keys_of_a_pickle(self):
        self.dump(format='pickle', metadata={
            ('a', 1): {('b', 2): {1, 2}}, 5: b'x', None: frozenset([1])})
        self.check()
        self.check_text()

    def test_moments(self):
        for moment in MOMENTS:
            with self.subTest(moment):
                self.dump(timestamp=moment)
                self.check()
                self.check_text()

    def test_figures(self):
        for attributes in (
                {'traced_memory': (2 ** 64 - 1, 2 ** 64 - 1)},
                {'freelists': {'\x1b': (2 ** 64 - 1, 2 ** 64 - 1)}},
                {'pid': 2 ** 64 - 1}, {'pid': 0}, {'pid': None}):
            self.dump(**attributes)
            self.check()
            self.check_text()
        for attributes in (
                {'traced_memory': (2 ** 64, 0)}, {'traced_memory': (-1, 0)},
                {'traced_memory': (0, 10 ** 400)}, {'pid': -1},
                {'pid': '\x1b[31m'}, {'traceback_limit': -1},
                {'freelists': {'a': (1, -1)}}, {'freelists': {'a': ('x', 1)}}):
            with self.subTest(attributes):
                self.dump(**attributes)
                self.refused(1, 'x: not a whole snapshot: damaged metadata',
                             'report', 'x')

    def test_groups(self):
        self.dump()
        for by in ('file', 'function', 'module', 'task', 'type', 'type+line',
                   'traceback', 'address', 'domain'):
            with self.subTest(by):
                self.check(by)


class HashTest(unittest.TestCase):
    """Lines that were chosen to have one place in a hash table."""

    FACTOR = 0x9e3779b97f4a7c15   # what multiplies in many such tables
    SLOTS = 2 ** 19
    STEP = 27_320_612             # lines from one to the next at a place

    def slot(self, file, line):
        product = (file << 32 | line) * self.FACTOR & 2 ** 64 - 1
        return (product >> 32) % self.SLOTS

    def chosen(self, count):
        places = []
        generator = random.Random(1)
        file = 2
        while len(places) < count:
            line = generator.randrange(self.STEP)
            while not 1000 < self.slot(file, line) < 2000:
                line += 1
            places += [(f'f{file}', line)
                       for line in range(line, 2 ** 31 - 2, self.STEP)]
            file += 1
        return places[:count]

    def seconds(self, places):
        snapshot = tracemalloc.Snapshot([(0, 1, (place,), 1)
                                         for place in places], 1)
        start = time.process_time()
        for _ in range(3):
            self.assertEqual(len(snapshot.statistics('lineno')), len(places))
        return time.process_time() - start

    def test_time_of_grouping(self):
        chosen = self.chosen(60_000)
        usual = [(f'f{number // 75}', number) for number in range(60_000)]
        self.assertLess(self.seconds(chosen), 5 * self.seconds(usual))


if __name__ == '__main__':
    unittest.main()
