"""pytracemalloc diff: what has changed, of any measure, in any format."""

import csv
import io
import json
import os
import re
import shutil
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import FREE_THREADED
from test.test_pytracemalloc.test_pprof import Profile

# Each measure changes most at a line of its own, so that a report sorted by
# another one has another first line: live memory at 5, live blocks at 6, the
# peak at 9, all memory ever at 12, garbage at 15.  Line 18 shrinks.
PROGRAM = '''\
import gc, sys
more = int(sys.argv[1])

def keep():
    big = [bytes(100_000) for _ in range(5 * more)]
    many = [bytes(number % 5 + 1) for number in range(1000 * more)]
    return big, many
def high():
    return [bytes(200_000) for _ in range(20 * more)]
def churn():
    for _ in range(5000 * more):
        bytes(3000)
def rings():
    for _ in range(300 * more):
        ring = [bytes(300)]
        ring.append(ring)
def shrinks():
    return [bytes(1000) for _ in range(90 - 40 * more)]

kept = keep(), shrinks()
high()
churn()
rings()
gc.collect()
'''
# 50 bytes objects and their list, then 10: each object, and the items of the
# list, are some bytes larger without the GIL.
SHRINKS, SHRUNK = (('-41.3 KiB', '10.4 KiB') if FREE_THREADED else
                   ('-40.6 KiB', '10.3 KiB'))
LINES = {'size': 5, 'count': 6, 'peak': 9, 'total': 12, 'garbage': 15}
TITLES = {'size': 'live memory', 'count': 'live blocks',
          'peak': 'memory at the peak', 'total': 'memory ever allocated',
          'garbage': 'memory freed by the cyclic collector'}


class DiffTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        for name, more in (('old', '1'), ('new', '2')):
            command('run', '-q', '-o',
                    os.path.join(cls.source, f'{name}.tracemalloc'), path,
                    more, check=True)

    def setUp(self):
        super().setUp()
        for name in ('old.tracemalloc', 'new.tracemalloc'):
            shutil.copy(os.path.join(self.source, name), name)
        self.old, self.new = map(tracemalloc.Snapshot.load, (
            'old.tracemalloc', 'new.tracemalloc'))

    def diff(self, *args):
        return self.ok('diff', 'old.tracemalloc', 'new.tracemalloc', *args)

    def expected(self, measure, line):
        """Return what has changed of a measure at a line: bytes, blocks."""
        name = '' if measure in ('size', 'count') else f'{measure}_'
        values = []
        for snapshot in self.new, self.old:
            [stat] = [stat for stat in snapshot.statistics(
                'lineno', order=f'{name}size') if
                stat.traceback[-1].lineno == line and
                stat.traceback[-1].filename.endswith('app.py')]
            values.append((getattr(stat, f'{name}size'),
                           getattr(stat, f'{name}count')))
        (size, count), (old_size, old_count) = values
        return size - old_size, count - old_count

    def test_text_is_sorted_and_titled_by_the_measure(self):
        for measure, line in LINES.items():
            with self.subTest(measure):
                lines = self.diff('--what', measure).splitlines()
                self.assertEqual(lines[0], 'new.tracemalloc compared to '
                                           'old.tracemalloc')
                self.assertRegex(lines[1], r'^Traced memory: .* \(\+.*\), '
                                           r'peak \d')
                self.assertEqual(lines[3], f'Top 10 lines by change of '
                                           f'{TITLES[measure]}:')
                self.assertRegex(lines[5], rf'app\.py:{line} in \w+$')
                self.assertEqual(lines[4].split(), (
                    ['change', 'count', 'change', 'size'] if
                    measure == 'count' else
                    ['change', 'size', 'change', 'count']))
                self.assertRegex(lines[-1], r'  total$')

    def test_values_of_each_measure(self):
        for measure, line in LINES.items():
            with self.subTest(measure):
                rows = list(csv.DictReader(io.StringIO(self.diff(
                    '--what', measure, '--format', 'csv'))))
                name = '' if measure in ('size', 'count') else f'{measure}_'
                self.assertEqual(
                    list(rows[0]), ['filename', 'lineno', 'function',
                                    f'{name}size', f'{name}size_diff',
                                    f'{name}count', f'{name}count_diff'])
                self.assertTrue(rows[0]['filename'].endswith('app.py'))
                self.assertEqual(rows[0]['lineno'], str(line))
                self.assertEqual((int(rows[0][f'{name}size_diff']),
                                  int(rows[0][f'{name}count_diff'])),
                                 self.expected(measure, line))
                document = json.loads(self.diff('--what', measure, '--format',
                                                'json'))
                self.assertEqual(
                    [(row[f'{name}size'], row[f'{name}size_diff'])
                     for row in document['statistics']],
                    [(int(row[f'{name}size']), int(row[f'{name}size_diff']))
                     for row in rows])

    def test_what_shrinks(self):
        output = self.diff('--include', '*app.py:18')
        self.assertRegex(output, rf'\n{re.escape(SHRINKS)}  '
                                 rf'{re.escape(SHRUNK)} +-40 +12  '
                                 rf'\S+app\.py:18 in shrinks\n')

    def test_nothing_has_changed(self):
        for measure in LINES:
            output = self.ok('diff', 'new.tracemalloc', 'new.tracemalloc',
                             '--what', measure)
            self.assertNotIn('app.py', output)
            self.assertRegex(output, r'\n +\+0( B)? .*  total\n\Z')

    def test_every_key(self):
        for by in ('line', 'file', 'function', 'module', 'task', 'type',
                   'type+line',
                   'traceback', 'address', 'domain'):
            for measure in LINES:
                if by in ('type', 'type+line', 'address', 'domain') and \
                        measure not in ('size', 'count'):
                    self.refused(2, 'live memory only', 'diff',
                                 'old.tracemalloc', 'new.tracemalloc', '--by',
                                 by, '--what', measure)
                    continue
                with self.subTest(by=by, what=measure):
                    rows = list(csv.DictReader(io.StringIO(self.diff(
                        '--by', by, '--what', measure, '--format', 'csv'))))
                    *_, change, _, blocks = rows[0]
                    self.assertEqual(
                        (sum(int(row[change]) for row in rows),
                         sum(int(row[blocks]) for row in rows)),
                        self.totals(measure))

    def totals(self, measure):
        name = '' if measure in ('size', 'count') else f'{measure}_'
        return tuple(
            sum(sign * getattr(stat, name + column) for sign, snapshot
                in ((1, self.new), (-1, self.old)) for stat
                in snapshot.statistics('lineno', order=f'{name}size'))
            for column in ('size', 'count'))

    def test_flame_graph(self):
        for measure in LINES:
            self.diff('--what', measure, '-o', 'a.svg', '-f')
            with open('a.svg', encoding='utf-8') as file:
                text = file.read()
            self.assertIn(f'new.tracemalloc compared to old.tracemalloc: '
                          f'{TITLES[measure]}</text>', text)
            changes = dict(re.findall(
                r'<title>\w+ \S+app\.py:(\d+): .* ([+-]\d.*)</title>', text))
            self.assertEqual(changes[str(LINES[measure])][0], '+')
            if measure == 'size':
                self.assertEqual(changes['18'], SHRINKS)

    def test_collapsed_has_two_columns(self):
        for measure in LINES:
            sums = [0, 0]
            for line in self.diff('--what', measure, '--format',
                                  'collapsed').splitlines():
                for index, value in enumerate(line.rsplit(' ', 2)[1:]):
                    sums[index] += int(value)
            change = sums[1] - sums[0]
            self.assertEqual(change,
                             self.totals(measure)[measure == 'count'])

    def test_pprof_has_a_base(self):
        self.diff('-o', 'a.pb.gz')
        with open('a.pb.gz', 'rb') as file:
            profile = Profile(file.read())
        self.assertEqual(profile.totals(), [
            self.totals('total')[1], self.totals('total')[0],
            self.totals('size')[1], self.totals('size')[0]])
        base = [sample for sample in profile.samples
                if 'pprof::base' in str(sample)]
        self.assertTrue(base)


if __name__ == '__main__':
    unittest.main()
