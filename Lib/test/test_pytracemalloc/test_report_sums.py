"""Filters and sums commute: every combination of the options of a report is
compared with a slow model of what it must show."""

import collections
import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tracemalloc
import unittest

from pytracemalloc.measures import BLOCK_KEYS, KEYS, MEASURES
from tracemalloc.sizes import format_size
from tracemalloc.statistic import MEASURES as COLUMNS
from test.test_pytracemalloc import slow_model
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.report_page import page_data
from test.test_pytracemalloc.test_pprof import Profile

# A library that calls back, recursion through two files, lines that two
# functions share, code that was made, an import, and memory that is freed: few
# enough blocks to count slowly.
PROGRAM = '''\
import collections, gc, json, sys, threading, tracemalloc
sys.path.insert(0, sys.argv[2])
import shop.monthly, shop.orders
import warnings

def main():
    kept.append(shop.monthly.report(4))
    kept.append([json.loads('{"a": [1.25, "text"], "b": {}}')
                 for number in range(5)])
    kept.append(list(map(lambda number: [kept.append(str(number))], range(9))))
    thread = threading.Thread(target=shop.orders.load, args=(2, kept))
    thread.start()
    thread.join()
    shop.orders.cycles()
    kept.append([Point(float(number), 2) for number in range(5)])
    gc.collect()
    [bytes(999) for number in range(9)]

kept = []
Point = collections.namedtuple('Point', 'x y')
tracemalloc.start('full')
main()
snapshot = tracemalloc.take_snapshot()
tracemalloc.stop()
snapshot.dump(sys.argv[1])
'''
MONTHLY = '''\
from shop import orders

def report(depth):
    return [bytearray(depth * 100), orders.load(depth, []), total(depth)]

def total(depth): return [number * 1.5 for number in range(depth)]
'''
ORDERS = '''\
import json
from shop import monthly

class Order:
    def __init__(self): self.other, self.number = self, 1.5

def load(depth, kept):
    import colorsys
    kept.append(json.dumps([depth]))
    kept.append(monthly.report(depth - 1) if depth else Order())
    return kept

def cycles():
    for number in range(9):
        Order()
'''
FILTERS = (
    ((), ()),
    ((('*monthly.py', None),), ()),
    ((), (('*/orders.py', None), ('*/json/*', None))),
    ((('*/shop/*', None), ('*/json/*', None)), (('*orders.py', 9),)),
    ((('*/monthly.py', 4),), ()),
)
_PPROF = {'total': ('total_count', 'total_size'), 'size': ('count', 'size')}
_SPEEDSCOPE = {'size': 'live memory', 'count': 'live blocks',
               'peak': 'memory at the peak', 'total': 'memory ever allocated',
               'garbage': 'freed by the cyclic collector'}


def options_of(include, exclude, all_frames, cumulative):
    def option(name, places):
        for pattern, line in places:
            yield name
            yield pattern if line is None else f'{pattern}:{line}'

    return [*option('--include', include), *option('--exclude', exclude),
            *['--all-frames'] * all_frames, *['--cumulative'] * cumulative]


class SumsTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        os.mkdir(os.path.join(cls.source, 'shop'))
        for name, text in ('monthly', MONTHLY), ('orders', ORDERS):
            with open(f'{cls.source}/shop/{name}.py', 'w') as file:
                file.write(text)
        cls.snapshot = os.path.join(cls.source, 'app')
        subprocess.run([sys.executable, path, cls.snapshot, cls.source],
                       check=True)
        snapshot = tracemalloc.Snapshot.load(cls.snapshot)
        cls.program = snapshot.program
        cls.unfolded = slow_model.rows_of(snapshot)

    def kind_of_import(self, filename):
        return ('hidden' if filename.startswith('<frozen importlib')
                or filename == '<unknown>' else 'shown')

    def kind_of_code(self, filename):
        return ('shown' if filename.startswith(self.source) else
                'made' if filename == '<string>' else 'hidden')

    def views(self):
        """Set the rows of each view; yield its options and its filters."""
        self.rows = self.unfolded
        yield ['--unfold'], FILTERS[1:3]
        self.rows = slow_model.fold(self.unfolded, self.kind_of_import,
                                    '<interpreter and imports>')
        yield [], FILTERS
        self.rows = slow_model.fold(self.unfolded, self.kind_of_code,
                                    '<no line of my code>')
        yield ['--my-code'], FILTERS[:2]

    def combinations(self):
        """Yield the arguments of a report, and what the model knows."""
        for options, filters in self.views():
            for (include, exclude), all_frames, cumulative in \
                    itertools.product(filters, (False, True), (False, True)):
                yield (options + options_of(include, exclude, all_frames,
                                            cumulative),
                       slow_model.Filters(include, exclude, all_frames),
                       cumulative)

    def report(self, format, what, *options):
        status, output, errors = self.call(
            'report', self.snapshot, '--format', format, '--what', what, '-o',
            '-', *options)
        self.assertEqual((status, errors), (0, ''), options)
        return output

    def test_something_of_everything(self):
        # Or the tests below prove little.
        self.rows = self.unfolded
        views = [self.rows for _ in self.views()]
        self.assertEqual([sum(row.values[0] for row in rows) for rows in views],
                         [sum(row.values[0] for row in self.unfolded)] * 3)
        paths = [{row.path for row in rows} for rows in views]
        self.assertEqual(len(set(map(frozenset, paths))), 3)
        for rows in views[1:]:
            self.assertTrue([row for row in rows if row.path[0].lineno == 0])
        self.rows = self.unfolded
        for name in MEASURES:
            column = COLUMNS.index(MEASURES[name].order)
            self.assertTrue(any(row.values[column] for row in self.rows))
        for include, exclude in FILTERS:
            for all_frames in False, True:
                filters = slow_model.Filters(include, exclude, all_frames)
                passing = sum(filters.reach_block(row.path, False)
                              for row in self.rows)
                self.assertGreater(passing, 3)

    def test_filtered_rows_are_rows(self):
        # Of what is accumulated, a filter leaves lines alone or leaves them
        # out.
        def sizes(*options):
            rows = json.loads(self.report('json', 'size', *options))
            return {(row['filename'], row['lineno']): row['size']
                    for row in rows['statistics']}

        all_of_it = sizes('--cumulative')
        only = sizes('--cumulative', '--include', '*monthly.py')
        self.assertEqual(only, {key: size for key, size in all_of_it.items()
                                if key[0].endswith('monthly.py')})
        self.assertGreater(len(only), 1)
        self.assertGreater(max(only.values()),
                           max(sizes('--include', '*monthly.py').values()))
        others = sizes('--cumulative', '--exclude', '*monthly.py')
        self.assertEqual(only | others, all_of_it)

    def test_tables(self):
        for options, filters, cumulative in self.combinations():
            for by in KEYS:
                if cumulative and by in (*BLOCK_KEYS, 'traceback', 'task'):
                    continue
                if by == 'task' and '--my-code' in options:
                    continue          # the frames of the loop are not shown
                expected = slow_model.group(self.rows, by, cumulative,
                                            filters, self.program)
                for what, measure in MEASURES.items():
                    if by in BLOCK_KEYS and what not in ('size', 'count'):
                        continue
                    with self.subTest(by=by, what=what, options=options):
                        self.check_table(by, measure, expected, options)

    def check_table(self, by, measure, expected, options):
        options = '--by', by, *options
        rows = json.loads(self.report('json', measure.name, *options))
        table = csv.DictReader(io.StringIO(
            self.report('csv', measure.name, *options)))
        # JSON has the next highest moments apart, if there were such.
        self.assertEqual(
            [[cell for name, cell in row.items() if name != 'traceback'
              and not name.startswith('next_peak_')] for row in table],
            [['' if cell is None else str(cell) for name, cell in row.items()
              if name != 'traceback'] for row in rows['statistics']])
        text = self.report('text', measure.name, *options, '--top', '9999')
        order = COLUMNS.index(measure.order)
        found = {}
        for row in rows['statistics']:
            known = 2 if by in BLOCK_KEYS else len(COLUMNS)
            values = [row.pop(name) for name in COLUMNS]
            found.setdefault(_key(row, by), [0] * known)
            for index in range(known):
                found[_key(row, by)][index] += values[index]
        known = 2 if by in BLOCK_KEYS else len(COLUMNS)
        self.assertEqual(found, {key: values[:known] for key, values
                                 in expected.items()})
        self.check_text(by, measure, text, '--cumulative' in options, {
            key: values for key, values in expected.items()
            if values[order | 1]})

    def check_text(self, by, measure, text, cumulative, expected):
        """Sums of the lines, and their sum: that of everything traced."""
        cells = [re.match(r' *([\d.,]+ [KM]?i?B|[\d,]+) +'
                          r'([\d.,]+ [KM]?i?B|[\d,]+) +(?:\S+ [KM]?i?B|-)'
                          r'(?: +(.*))?$', line) for line in text.splitlines()]
        cells = [cell.groups() for cell in cells if cell]
        size = COLUMNS.index(measure.size)
        places = (size + 1, size) if measure.name == 'count' else (
            size, size + 1)
        show = {size: format_size, size + 1: '{:,}'.format}
        figures = collections.Counter(
            tuple(show[place](values[place]) for place in places)
            for values in expected.values())
        if not cumulative:
            whole = [sum(row.values[place] for row in self.rows)
                     for place in places]
            passing = [sum(values[place] for values in expected.values())
                       for place in places]
            if cells[-2:-1] and cells[-2][2] == 'left out by the filters':
                figures[tuple(show[place](all_of_it - part)
                              for place, all_of_it, part
                              in zip(places, whole, passing))] += 1
            else:
                self.assertEqual(whole, passing)
            figures[tuple(show[place](value)
                          for place, value in zip(places, whole))] += 1
        if by in ('address', 'domain', 'native'):
            self.assertEqual(cells[-1][2], 'total')
        else:
            self.assertEqual(collections.Counter(cell[:2] for cell in cells),
                             figures)

    def test_stacks(self):
        for options, filters, cumulative in self.combinations():
            expected = slow_model.stacks(self.rows, cumulative, filters)
            for what, measure in MEASURES.items():
                for format in ('collapsed', 'speedscope', 'html', 'pprof',
                               'flamegraph'):
                    with self.subTest(what=what, format=format,
                                      options=options):
                        check = getattr(self, f'check_{format}')
                        check(measure, expected, options)

    def values_of(self, expected, column):
        index = COLUMNS.index(column)
        return {path: values[index] for path, values in expected.items()
                if values[index]}

    def check_collapsed(self, measure, expected, options):
        found = collections.Counter()
        for line in self.report('collapsed', measure.name,
                                *options).splitlines():
            stack, _, value = line.rpartition(' ')
            found[stack] += int(value)
        wanted = collections.Counter()
        for path, value in self.values_of(expected, measure.order).items():
            wanted[';'.join(f'{os.path.basename(frame.filename)}:'
                            f'{frame.function}:{frame.lineno}'
                            if frame.lineno else _name(frame)
                            for frame in path[::-1])] += value
        self.assertEqual(found, wanted)

    def check_speedscope(self, measure, expected, options):
        document = json.loads(self.report('speedscope', measure.name,
                                          *options))
        [profile] = [profile for profile in document['profiles']
                     if profile['name'] == _SPEEDSCOPE[measure.name]]
        frames = [(frame['file'], frame['line'], frame['name'])
                  for frame in document['shared']['frames']]
        found = collections.Counter()
        for stack, weight in zip(profile['samples'], profile['weights']):
            found[tuple(frames[index] for index in stack)] += weight
        wanted = collections.Counter()
        for path, value in self.values_of(expected, measure.order).items():
            wanted[tuple(frame[:3] if frame.lineno else
                         (_name(frame), 0, _name(frame))
                         for frame in path[::-1])] += value
        self.assertEqual(found, wanted)

    def check_html(self, measure, expected, options):
        data = page_data(self.report('html', measure.name, *options))
        files = [data['strings'][index] for index in data['files']]
        paths, found = [], collections.Counter()
        columns = data['columns']
        for distance, frame, value in zip(
                columns['callers'], columns['frames'],
                columns[measure.order], strict=True):
            place = (files[data['frame_files'][frame]],
                     data['frame_lines'][frame])
            callers = paths[-distance] if distance <= len(paths) else ()
            paths.append((place, *callers))
            if value:
                found[paths[-1]] += value
        wanted = collections.Counter()
        if not {'--include', '--exclude'} & {*options}:
            # The page folds by itself.
            expected = slow_model.stacks(self.unfolded, False,
                                         slow_model.Filters())
        for path, value in self.values_of(expected, measure.order).items():
            wanted[tuple(frame[:2] if frame.lineno else (_name(frame), 0)
                         for frame in path)] += value
        self.assertEqual(found, wanted)

    def check_pprof(self, measure, expected, options):
        if measure.name not in _PPROF:
            return
        status, _, _ = self.call('report', self.snapshot, '--format', 'pprof',
                                 '-f', '-o', 'out', *options)
        self.assertEqual(status, 0)
        with open('out', 'rb') as file:
            found = Profile(file.read()).totals() or [0] * 4
        self.assertEqual(found, [
            sum(self.values_of(expected, column).values())
            for column in ('total_count', 'total_size', 'count', 'size')])

    def check_flamegraph(self, measure, expected, options):
        text = self.report('flamegraph', measure.name, *options)
        show = '{:,}'.format if measure.name == 'count' else format_size
        total = sum(self.values_of(expected, measure.order).values())
        found = re.search(r'<title>all: (.*?), ', text)
        self.assertEqual(found and found[1], show(total) if total else None)


def _name(frame):
    """What people see of what has no line."""
    if frame.filename == '<unknown>':
        return (f'interpreter, no Python frame '
                f'({frame.function.strip("<>")})')
    return frame.filename.strip('<>')


def _key(row, by):
    """The model's key of a row of JSON."""
    if by == 'traceback':
        return tuple((frame['filename'], frame['lineno'])
                     for frame in row['traceback'])
    if by in ('address', 'domain', 'native'):
        return ()
    values = [value for name, value in row.items() if name in (
        'type', 'filename', 'lineno', 'function', 'first_lineno', 'module')]
    return tuple(values[:2] if by == 'line' else values)


if __name__ == '__main__':
    unittest.main()
