"""Reports of several snapshots: which lines grew when."""

import datetime
import json
import os
import re
import subprocess
import sys
import tracemalloc
import unittest

from pytracemalloc.measures import MEASURES
from pytracemalloc.series import Series, add_up
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.report_page import PageCase
from test.test_pytracemalloc.test_report_json import SCHEMA, faults
from tracemalloc.sizes import format_size

PROGRAM = '''\
import gc, sys, tracemalloc
def grow(n): kept.append([bytes(1000) for _ in range(n)])
def steady(): return [bytearray(200_000)]
def shrink(n): del other[-n:]
kept, other = [], [str(i) * 100 for i in range(4000)]
tracemalloc.start(5)
other += [str(i) * 100 for i in range(4000)]
same = steady()
for number in range(5):
    grow(300 * number)
    shrink(1000)
    for _ in range(100): (cycle := []).append(cycle)
    del cycle
    gc.collect()
    tracemalloc.take_snapshot().dump(sys.argv[1 + number])
'''
NAMES = [f'{number}.tracemalloc' for number in range(5)]


class SeriesCase(CommandCase):

    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        cls.files = [os.path.join(cls.source, name) for name in NAMES]
        subprocess.run([sys.executable, path, *cls.files], check=True)
        cls.snapshots = [tracemalloc.Snapshot.load(file)
                         for file in cls.files]


class TotalTests(SeriesCase):
    """The rows of each snapshot add up to what it has by itself."""

    def document(self, *args):
        return json.loads(self.ok('report', *self.files, *args, '--format',
                                  'json'))

    def single(self, file, *args):
        document = json.loads(self.ok('report', file, *args, '--format',
                                      'json'))
        return document['statistics']

    def test_every_value(self):
        for by in 'line', 'file', 'function', 'module', 'type', 'traceback':
            for what in ('size', 'count') if by == 'type' else MEASURES:
                measure = MEASURES[what]
                with self.subTest(by=by, what=what):
                    args = '--by', by, '--what', what
                    document = self.document(*args)
                    self.check(document, measure, args)

    def check(self, document, measure, args):
        fields = [name for name in document['statistics'][0]
                  if name not in ('size', 'count')]
        for number, file in enumerate(self.files):
            # A group that has nothing at this snapshot is a zero here.
            there = {
                json.dumps([row[name] for name in fields]):
                (row[measure.size], row[measure.count])
                for row in self.single(file, *args)
                if row[measure.size] or row[measure.count]}
            here = {
                json.dumps([row[name] for name in fields]):
                (row['size'][number], row['count'][number])
                for row in document['statistics']
                if row['size'][number] or row['count'][number]}
            self.assertEqual(here, there)

    def test_head(self):
        document = self.document()
        self.assertEqual(
            [(each['file'], each['traced_memory'], each['peak_memory'],
              each['pid']) for each in document['snapshots']],
            [(file, *snapshot.traced_memory, snapshot.pid)
             for file, snapshot in zip(self.files, self.snapshots)])
        self.assertEqual((document['by'], document['what'],
                          document['format'], document['version']),
                         ('line', 'size', 'pytracemalloc series', 1))

    def test_schema(self):
        if not SCHEMA.is_file():
            self.skipTest('needs the repository')
        documents = [self.document(*args) for args in (
            (), ('--by', 'type', '--what', 'count'), ('--my-code',),
            ('--by', 'traceback', '--what', 'peak', '--unfold'))]
        self.assertEqual(faults(documents), '')
        for change in (lambda document: document.update(version=2),
                       lambda document: document.pop('what'),
                       lambda document: document['snapshots'][0].pop('pid'),
                       lambda document: document['statistics'][0].update(
                           size=[1])):
            document = self.document()
            change(document)
            self.assertNotEqual(faults([document]), '')

    def test_those_that_grew_most_come_first(self):
        for what in 'size', 'count':
            grown = [row[what][-1] - row[what][0] for row in
                     self.document('--what', what)['statistics']]
            self.assertEqual(grown, sorted(grown, reverse=True))
            self.assertGreater(grown[0], 0)
            self.assertLess(grown[-1], 0)

    def test_filters(self):
        rows = self.document('--include', '*app.py:2')['statistics']
        self.assertEqual({row['lineno'] for row in rows}, {2})
        text = self.ok('report', *self.files, '--include', '*app.py:2')
        self.assertIn('left out by the filters', text)
        self.assert_total(text)

    def assert_total(self, text):
        total, = re.findall(r'^(.*)  total$', text, re.M)
        first, last = (sum(stat.size for stat in snapshot.fold_imports()
                           .statistics('filename'))
                       for snapshot in (self.snapshots[0],
                                        self.snapshots[-1]))
        self.assertEqual(total.split()[:-1],
                         [*format_size(last - first, sign=True).split(),
                          *format_size(last).split()])

    def test_order_of_the_files(self):
        """That of time, whatever the command line says."""
        document = self.document()
        turned = json.loads(self.ok('report', *self.files[::-1], '--format',
                                    'json'))
        self.assertEqual(turned, document)


class TextTests(SeriesCase):

    def test_table(self):
        text = self.ok('report', *self.files)
        self.assertRegex(text, r'\A5 snapshots, the last one \S*/4\.')
        self.assertIn('Top 10 lines by growth of live memory:\n', text)
        rows = {int(line): (change, drawn) for change, drawn, line in
                re.findall(r'^ *([+-]\S+) \S+ .*  (\S{5})  \S*app\.py:(\d+) ',
                           text, re.M)}
        for line, pattern in ((2, r'\+.*'), (3, r'\+0'), (7, r'-.*')):
            self.assertRegex(rows[line][0], pattern)
        levels = '_.-=+*%#'
        drawn = [[levels.index(block) for block in rows[line][1]]
                 for line in (2, 3, 7)]
        self.assertEqual(drawn[0], sorted(drawn[0]))
        self.assertEqual(drawn[1], [7] * 5)
        self.assertEqual(drawn[2], sorted(drawn[2], reverse=True))

    def test_total(self):
        TotalTests.assert_total(self, self.ok('report', *self.files))
        text = self.ok('report', *self.files, '--top', '1')
        TotalTests.assert_total(self, text)
        self.assertRegex(text, r'\d+ more\n')

    def test_many_snapshots_fit(self):
        text = self.ok('report', *self.files * 20)
        drawn = re.search(r'  (\S+)  total', text)[1]
        self.assertEqual(len(drawn), 40)

    def test_suspects_as_in_a_difference(self):
        self.assertEqual(
            self.suspects('report', *self.files),
            self.suspects('diff', self.files[0], self.files[-1]))

    def suspects(self, *args):
        return self.ok(*args).partition('Suspected')[2]

    def test_refusals(self):
        for args in (['--by', 'holder'], ['--by', 'address'],
                     ['--what', 'retained'], ['--format', 'pprof'],
                     ['--format', 'csv'], ['-o', 'x.svg']):
            status, output, errors = self.call('report', *self.files, *args)
            self.assertEqual((status, output), (2, ''), errors)
            self.assertIn('several snapshots can be shown only as', errors)

    def test_one_missing(self):
        status, output, errors = self.call('report', *self.files, 'nothing')
        self.assertEqual((status, output), (1, ''))
        self.assertIn('nothing: No such file', errors)

    def test_nothing_in_them(self):
        for name in 'a', 'b':
            tracemalloc.Snapshot([], 1).dump(name)
        for options in [], ['--format', 'json'], ['-o', 'x.html']:
            self.ok('report', 'a', 'b', *options)

    def test_sums(self):
        self.assertEqual(add_up([])[1:], ([], []))

    def test_no_times(self):
        """Then the order is that of the command line."""
        for name, size in ('b', 5), ('a', 9):
            snapshot = tracemalloc.Snapshot(
                [(0, size, (('x.py', 1),), 1)], 1)
            snapshot.timestamp = None
            snapshot.dump(name)
        document = json.loads(self.ok('report', 'b', 'a', '--format', 'json'))
        self.assertEqual(document['statistics'][0]['size'], [5, 9])
        self.assertEqual([each['timestamp'] for each in
                          document['snapshots']], [None, None])


class SeriesPageTests(SeriesCase, PageCase):

    @classmethod
    def setUpClass(cls):
        SeriesCase.setUpClass.__func__(cls)
        PageCase.setUpClass.__func__(cls)

    def setUp(self):
        super().setUp()
        self.ok('report', *self.files, '-f', '-o', 'x.html')
        self.browser.open('x.html')
        self.browser.settle()

    def said(self):
        return self.text('#band')

    def test_areas(self):
        values = self.browser.run('stack.series.values')
        sums = [sum(column) for column in zip(*values)]
        self.assertEqual(sums, [
            sum(stat.size for stat in snapshot.statistics('filename'))
            for snapshot in self.snapshots])
        self.assertEqual(self.browser.run(
            "document.querySelectorAll('#stack .band').length"), len(values))
        # They stand on each other: the highest point is the highest sum.
        points = self.browser.run(
            "Array.from(document.querySelectorAll('#stack .band'), band => "
            "band.getAttribute('d'))")
        heights = [[float(y) for _, y in re.findall(r'([\d.]+) ([\d.]+)',
                                                    path)][:5]
                   for path in points]
        for number, total in enumerate(sums):
            self.assertAlmostEqual(100 - heights[-1][number],
                                   total / max(sums) * 100, delta=.02)
        self.assertEqual(self.browser.problems(), [])

    def test_keyboard(self):
        self.browser.run("$('stack').focus()")
        self.assertIn('snapshot 5 of 5', self.said())
        names = self.browser.run('stack.series.names')
        for key, number, band in (('ArrowLeft', 4, 0), ('Home', 1, 0),
                                  ('ArrowUp', 1, 1), ('ArrowRight', 2, 1),
                                  ('ArrowDown', 2, 0), ('ArrowDown', 2, 0),
                                  ('End', 5, 0)):
            self.browser.press(key)
            self.assertIn(f'snapshot {number} of 5', self.said())
            self.assertIn(f'— {names[band]} —', self.said())
            self.assertEqual(self.browser.run(
                "$('stack').getAttribute('aria-valuetext')"), self.said())

    def test_mouse(self):
        left, top, width, height = self.browser.run(
            "(() => { const r = $('stack').getBoundingClientRect(); "
            "return [r.left, r.top, r.width, r.height]; })()")
        self.browser.move(left + width - 1, top + height - 2)
        self.assertIn('snapshot 5 of 5', self.said())
        self.assertIn(self.browser.run('stack.series.names[0]'), self.said())
        self.browser.move(left + 1, top + height - 2)
        self.assertIn('snapshot 1 of 5', self.said())


class OrderTests(unittest.TestCase):

    def test_first_and_last(self):
        series = Series()
        now = datetime.datetime(2026, 1, 1)

        class Subject:
            measure = MEASURES['size']
            is_filtered = cumulative = False

            def load(self, loaded):
                self.loaded = loaded

            def statistics(self):
                return []

        class Loaded:
            def __init__(self, second):
                self.passing = tracemalloc.Snapshot([], 1)
                self.passing.timestamp = now + datetime.timedelta(
                    seconds=second)

        loaded = [Loaded(second) for second in (3, 1, 2, 5, 4)]
        subject = Subject()
        for number, each in enumerate(loaded):
            series.add(str(number), each, subject)
        series.finish(subject)
        self.assertIs(series.first, loaded[1])
        self.assertIs(series.last, loaded[3])
        self.assertIs(subject.loaded, loaded[3])
        self.assertEqual([taken.path for taken in series.taken],
                         ['1', '2', '0', '4', '3'])


if __name__ == '__main__':
    unittest.main()
