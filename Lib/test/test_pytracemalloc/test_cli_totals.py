"""pytracemalloc report: every key, value and format of a real snapshot, with
filters and without; what they add up to is the same in all of them."""

import csv
import io
import json
import os
import re
import shutil
import tracemalloc
import unittest

from pytracemalloc.measures import BLOCK_KEYS, KEYS, MEASURES
from pytracemalloc.reporters.rows import key_fields
from pytracemalloc.reporters import FORMATS, Subject
from pytracemalloc.units import format_count
from tracemalloc.sizes import format_size
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.otlp_case import Message, formats_here
from test.test_pytracemalloc.report_page import page_data
from test.test_pytracemalloc.test_pprof import Profile

PROGRAM = '''\
import gc, json, threading

class Node:
    def __init__(self):
        self.other = self

def tree(depth):
    return [tree(depth - 1), bytearray(depth * 10)] if depth else [1.5]

def work():
    kept.append([tree(depth) for depth in range(60)])
    [Node() for _ in range(500)]

kept = []
[bytes(number) for number in range(3000)]
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
work()
gc.collect()
kept.append(json.loads('{"a": [1.25, 2.5, "text"]}'))
'''
FILTERS = ([], ['--include', '*app.py'], ['--exclude', '*app.py'],
           ['--include', '*app.py:8', '--all-frames'],
           ['--exclude', '*/json/*', '--exclude', '<frozen *'],
           ['--include', '*/threading.py', '--all-frames', '--exclude',
            '*app.py:11'], ['--include', '/nowhere/*', '--include',
                            f'*:{2**40}'])
NOTHING = 'pytracemalloc: {}: no allocation passes the filters\n'
_PPROF = {'total': (0, 1), 'size': (2, 3)}
_SPEEDSCOPE = {'size': 'live memory', 'count': 'live blocks',
               'peak': 'memory at the peak', 'total': 'memory ever allocated',
               'garbage': 'freed by the cyclic collector'}


class TotalsTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        for name, *options in (('full', '-n', 'full'), ('three', '-n', '3'),
                               ('one', '-n', '1'), ('bare', '--no-traces')):
            command('run', '-q', *options, '-o',
                    os.path.join(cls.source, name), path, check=True)

    def setUp(self):
        super().setUp()
        for name in os.listdir(self.source):
            shutil.copy(os.path.join(self.source, name), name)

    def report(self, name, format, *args):
        status, output, errors = self.call('report', name, '--format', format,
                                           '-o', '-', *args)
        self.assertEqual((status, errors), (0, NOTHING.format(name)
                                            if '/nowhere/*' in args else ''))
        return output

    def rows(self, *args):
        return list(csv.DictReader(io.StringIO(self.report(*args))))

    def totals(self, name, filters):
        """Sum up the CSV by line: what the others are held to."""
        return self.sums(self.rows(name, 'csv', *filters))

    def sums(self, rows):
        return {measure.name: tuple(sum(int(row[column]) for row in rows)
                                    for column in (measure.size,
                                                   measure.count))
                for measure in MEASURES.values()}

    def test_totals_are_the_snapshot_s(self):
        for name in 'full', 'three', 'one', 'bare':
            snapshot = tracemalloc.Snapshot.load(name)
            totals = self.totals(name, [])
            self.assertEqual((totals['size'][0], totals['peak'][0]),
                             snapshot.traced_memory)
            self.assertGreater(totals['total'][0], totals['peak'][0])
            self.assertGreaterEqual(totals['garbage'][1], 4 * 500)
            if name != 'bare':
                self.assertEqual(totals['size'],
                                 (sum(trace.size for trace
                                      in snapshot.traces),
                                  len(snapshot.traces)))

    def test_an_error_is_one_line(self):
        # Not after a line on the snapshot that the filters leave empty.
        nothing = ['--include', '/nowhere/*']
        for words in (['report', 'full', 'missing'],
                      ['report', 'full', '-o', 'missing/out.json'],
                      ['report', 'full', '--by', 'holder'],
                      ['diff', 'one', 'full', '--by', 'holder']):
            status, output, errors = self.call(*words, *nothing)
            self.assertEqual((status, output, errors.count('\n')), (1, '', 1),
                             errors)
        # And each snapshot is named once, also if it is loaded twice.
        for words in ['report', 'one', 'full'], ['diff', 'one', 'full']:
            status, output, errors = self.call(*words, *nothing)
            self.assertEqual((status, errors), (0, ''.join(
                NOTHING.format(name) for name in ('one', 'full'))))

    def test_filters_divide(self):
        # What a filter lets pass and what its opposite does are all.
        for pattern in ['*app.py'], ['*app.py:8', '--all-frames']:
            only, others, all_of_it = (
                self.totals('full', filters) for filters in (
                    ['--include', *pattern], ['--exclude', *pattern], []))
            for name in MEASURES:
                self.assertEqual(tuple(map(sum, zip(only[name],
                                                    others[name]))),
                                 all_of_it[name])

    def test_every_format(self):
        formats = formats_here(self, FORMATS)
        for name in 'three', 'bare':
            for filters in FILTERS:
                totals = self.totals(name, filters)
                for measure in MEASURES.values():
                    for format in formats:
                        with self.subTest(name, filters=filters,
                                          what=measure.name, format=format):
                            check = getattr(self, f'check_{format}')
                            check(measure, totals[measure.name],
                                  name, format, *self.output(format),
                                  '--what', measure.name, *filters)

    def output(self, format):
        return ['-f', '-o', 'out'] if format in ('pprof', 'otlp') else []

    def check_text(self, measure, totals, name, *args):
        # Behind the table there may be words on names, and moments.
        table, *_ = self.report(name, *args).split('\nNext highest moments')
        *_, before, last = [line for line in table.splitlines()
                            if not line.startswith(('<', 'More', 'interp'))]
        whole = self.totals(name, [])[measure.name]
        self.check_row(measure, whole, last, 'total')
        if set(args) & {'--include', '--exclude'}:
            self.check_row(measure, map(int.__sub__, whole, totals), before,
                           'left out by the filters')
        else:
            self.assertEqual(totals, whole)

    def check_row(self, measure, values, line, name):
        size, count = values
        cells = format_size(size), format_count(count)
        if measure.name == 'count':
            cells = cells[::-1]
        self.assertRegex(line, rf'^ *{re.escape(cells[0])} +'
                               rf'{re.escape(cells[1])} .*  {name}$')

    def check_csv(self, measure, totals, *args):
        rows = self.rows(*args)
        values = [int(row[measure.order]) for row in rows]
        self.assertEqual(values, sorted(values, reverse=True))

    def check_json(self, measure, totals, *args):
        rows = json.loads(self.report(*args))['statistics']
        self.assertEqual(tuple(sum(row[column] for row in rows) for column
                               in (measure.size, measure.count)), totals)

    def check_collapsed(self, measure, totals, *args):
        values = [int(line.rpartition(' ')[2])
                  for line in self.report(*args).splitlines()]
        self.assertEqual(sum(values), totals[measure.name == 'count'])

    def check_flamegraph(self, measure, totals, *args):
        text = self.report(*args)
        show = format_count if measure.name == 'count' else format_size
        expected = show(totals[measure.name == 'count'])
        found = re.search(r'<title>all: (.*?), ', text)
        self.assertEqual(found[1] if found else show(0), expected)

    def check_html(self, measure, totals, *args):
        data = page_data(self.report(*args))
        columns = data['columns']
        self.assertEqual((sum(columns[measure.size]),
                          sum(columns[measure.count])), totals)
        if measure.name in ('size', 'count') and data['types']:
            # Of what is on no list of blocks no type is known.
            self.assertEqual((sum(columns['type_sizes']),
                              sum(columns['type_counts'])), totals)

    def check_speedscope(self, measure, totals, *args):
        profiles = json.loads(self.report(*args))['profiles']
        [profile] = [profile for profile in profiles
                     if profile['name'] == _SPEEDSCOPE[measure.name]]
        total = totals[measure.name == 'count']
        self.assertEqual((profile['endValue'], sum(profile['weights'])),
                         (total, total))

    def check_pprof(self, measure, totals, name, format, *args):
        status, _, _ = self.call('report', name, '--format', format, *args)
        self.assertEqual(status, 0)
        with open('out', 'rb') as file:
            found = Profile(file.read()).totals() or [0] * 4
        for known in 'total', 'size':
            if measure.name == known:
                count, size = _PPROF[known]
                self.assertEqual((found[size], found[count]), totals)

    def check_otlp(self, measure, totals, name, format, *args):
        status, _, _ = self.call('report', name, '--format', format, *args)
        self.assertEqual(status, 0)
        with open('out', 'rb') as file:
            message = Message(file.read())
        for known, prefix in ('total', 'alloc'), ('size', 'inuse'):
            if measure.name == known:
                self.assertEqual(tuple(
                    sum(sample.value for sample in
                        message.samples(f'{prefix}_{what}'))
                    for what in ('space', 'objects')), totals)

    def test_every_key(self):
        for name in 'full', 'one', 'bare':
            for filters in FILTERS[:2]:
                totals = self.totals(name, filters)
                for by in KEYS:
                    for measure in MEASURES.values():
                        with self.subTest(name, filters=filters, by=by,
                                          what=measure.name):
                            self.check_key(name, by, measure,
                                           totals[measure.name], filters)

    def check_key(self, name, by, measure, totals, filters):
        args = '--by', by, '--what', measure.name, *filters
        blocks = by in BLOCK_KEYS
        if blocks and measure.name not in ('size', 'count'):
            self.refused(2, 'live memory only', 'report', name, *args)
            return
        if blocks and name == 'bare':
            self.refused(1, 'bare: the snapshot has no traces', 'report',
                         name, *args)
            return
        rows = self.rows(name, 'csv', *args)
        self.assertEqual(
            (sum(int(row[measure.size]) for row in rows),
             sum(int(row[measure.count]) for row in rows)), totals)
        self.check_json(measure, totals, name, 'json', *args)
        self.check_text(measure, totals, name, 'text', *args)
        fields = key_fields(Subject(None, by=by))
        keys = [(*map(row.get, fields),) for row in rows]
        self.assertEqual(len(keys), len(set(keys)))

    def test_every_group_is_in_a_table_for_programs(self):
        # Whatever it is sorted by.
        totals = self.totals('full', [])
        for by in set(KEYS) - set(BLOCK_KEYS):
            for what in MEASURES:
                args = '--by', by, '--what', what
                rows = self.rows('full', 'csv', *args)
                document = json.loads(self.report('full', 'json', *args))
                self.assertEqual(self.sums(rows), totals, args)
                self.assertEqual(self.sums(document['statistics']), totals)
                self.assertEqual(len(document['statistics']), len(rows))

    def test_names_of_keys_in_the_api(self):
        for by, name in KEYS.items():
            for format in 'text', 'csv', 'json':
                self.assertEqual(self.report('one', format, '--by', name),
                                 self.report('one', format, '--by', by))

    def test_cumulative(self):
        for by in 'line', 'file', 'function', 'module':
            for measure in MEASURES.values():
                args = '--by', by, '--what', measure.name, '--cumulative'
                own = self.rows('full', 'csv', *args[:-1])
                rows = self.rows('full', 'csv', *args)
                sizes = {(*map(row.get, key_fields(Subject(None, by=by))),):
                         int(row[measure.size]) for row in rows}
                with self.subTest(by=by, what=measure.name):
                    for row in own:
                        key = (*map(row.get, key_fields(Subject(None, by=by))),)
                        self.assertGreaterEqual(sizes[key],
                                                int(row[measure.size]))
                    self.assertGreaterEqual(sum(sizes.values()),
                                            sum(int(row[measure.size])
                                                for row in own))
                    self.assertIn(', with callees:',
                                  self.report('full', 'text', *args))


if __name__ == '__main__':
    unittest.main()
