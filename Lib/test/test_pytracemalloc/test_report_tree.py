"""Reports of call trees, from made-up trees with known sums."""

import csv
import io
import json
import tracemalloc
import unittest
import xml.etree.ElementTree

from pytracemalloc.measures import MEASURES
from pytracemalloc.reporters import FORMATS, Subject, find_reporter
from tracemalloc.views import Files
from pytracemalloc.tree import Tree
from test.test_pytracemalloc import support
from test.test_pytracemalloc.otlp_case import formats_here


def render(name, *snapshots, **options):
    new, old = (*snapshots, None)[:2]
    reporter = find_reporter(name)
    file = io.BytesIO() if reporter.binary else io.StringIO()
    reporter.write(Subject(new, old, **options), file)
    return file.getvalue()


class TreeTest(unittest.TestCase):
    def test_columns(self):
        tree = Tree.from_snapshot(support.Snapshot())
        self.assertEqual(tree.parents, [-1, 0, 1, 1, 3, -1])
        self.assertEqual(tree.values['peak_size'],
                         [100, 40, 4000, 2000, 7, 900])
        self.assertEqual([tree.frame_table[frame][1]
                          for frame in tree.path(4)], [9, 9, 12, 30])

    def test_cumulative(self):
        tree = Tree.from_snapshot(support.Snapshot())
        self.assertEqual(tree.cumulative('size'),
                         [5107, 5007, 3000, 2007, 7, 900])

    def test_difference_matches_paths(self):
        tree = Tree.from_difference(support.older(), support.Snapshot())
        self.assertEqual(tree.values['size'],
                         [100, 0, 3000, 2000, 7, 900, 0])
        self.assertEqual(tree.old['size'],
                         [50, 0, 1500, 1000, 3, 0, 60])


class CollapsedTest(unittest.TestCase):
    def test_lines(self):
        lines = render('collapsed', support.Snapshot()).splitlines()
        self.assertIn('main.py:<module>:30;main.py:main:12;'
                      'shop.py:Shop.load:7 3000', lines)
        self.assertEqual(sum(int(line.rpartition(' ')[2]) for line in lines),
                         6007)

    def test_measure(self):
        text = render('collapsed', support.Snapshot(),
                      measure=MEASURES['garbage'])
        self.assertEqual(len(text.splitlines()), 1)
        self.assertTrue(text.endswith(' 500\n'))

    def test_names_cannot_break_the_format(self):
        nodes = [(-1, 'a;b\n.py', 1, 'f;\n', 1, 5, 1, 5, 1, 5, 1, 0, 0)]
        text = render('collapsed', support.Snapshot(nodes, ()))
        self.assertEqual(text, 'a,b\\n.py:f,\\n:1 5\n')

    def test_difference_has_two_columns(self):
        lines = render('collapsed', support.Snapshot(),
                       support.older()).splitlines()
        self.assertTrue(any(line.endswith('gone.py:gone:3 60 0')
                            for line in lines))


class SpeedscopeTest(unittest.TestCase):
    def check(self, document):
        frames = document['shared']['frames']
        self.assertEqual(document['$schema'],
                         'https://www.speedscope.app/file-format-schema.json')
        for profile in document['profiles']:
            self.assertEqual(profile['type'], 'sampled')
            self.assertEqual(len(profile['samples']),
                             len(profile['weights']))
            self.assertEqual(sum(profile['weights']), profile['endValue'])
            self.assertTrue(all(0 <= index < len(frames)
                                for stack in profile['samples']
                                for index in stack))

    def test_totals(self):
        document = json.loads(render('speedscope', support.Snapshot(),
                                     measure=MEASURES['peak']))
        self.check(document)
        ends = {profile['name']: profile['endValue']
                for profile in document['profiles']}
        self.assertEqual(ends['live memory'], 6007)
        self.assertEqual(ends['memory at the peak'], 7047)
        active = document['profiles'][document['activeProfileIndex']]
        self.assertEqual(active['name'], 'memory at the peak')

    def test_oldest_frame_first(self):
        document = json.loads(render('speedscope', support.Snapshot()))
        frames = document['shared']['frames']
        profile = document['profiles'][0]
        stack = profile['samples'][profile['weights'].index(3000)]
        self.assertEqual([frames[index]['name'] for index in stack],
                         ['<module>', 'main', 'Shop.load'])

    def test_difference_is_two_profiles(self):
        document = json.loads(render('speedscope', support.Snapshot(),
                                     support.older()))
        self.check(document)
        ends = {profile['name']: profile['endValue']
                for profile in document['profiles']}
        self.assertEqual(ends['live memory: shrunk'], 60)
        self.assertEqual(ends['live memory: grown'], 6007 - 2553)


class CsvTest(unittest.TestCase):
    def test_formulas_are_text(self):
        scope = {}
        for name in ('=1+cmd|x', '+1', '-1', '@sum', 'plain', 'a,"b'):
            exec(compile('def make(): return bytes(100)', name, 'exec'), scope)
            self.addCleanup(tracemalloc.stop)
            tracemalloc.start()
            kept = scope['make']()
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
            del kept
            for by in 'line', 'file', 'traceback', 'function':
                rows = list(csv.reader(io.StringIO(
                    render('csv', snapshot, by=by))))
                cell = next(row[0] for row in rows if name in row[0])
                self.assertEqual(cell.startswith(f"'{name}"),
                                 name[0] in '=+-@', (by, cell))


class FlameGraphTest(unittest.TestCase):
    def boxes(self, text):
        root = xml.etree.ElementTree.fromstring(text)
        name = '{http://www.w3.org/2000/svg}'
        return {box.find(f'{name}title').text:
                float(box.find(f'{name}rect').get('width'))
                for box in root.iter(f'{name}g')}

    def test_widths_follow_values(self):
        boxes = self.boxes(render('flamegraph', support.Snapshot()))
        self.assertEqual(boxes['all: 5.9 KiB, 100.0 %'], 1200)
        self.assertAlmostEqual(
            boxes['Shop.load /app/shop.py:7: 2.9 KiB, 49.9 %'],
            1200 * 3000 / 6007, 1)

    def test_labels_are_short(self):
        text = render('flamegraph', support.Snapshot())
        self.assertIn('>main main.py:12</text>', text)
        self.assertIn('>main.py:30</text>', text)
        self.assertIn('<title>&lt;module&gt; /app/main.py:30: ', text)

    def test_markup_in_names(self):
        nodes = [(-1, support.HOSTILE, 1, support.HOSTILE, 1, 5, 1, 5, 1, 5,
                  1, 0, 0)]
        text = render('flamegraph', support.Snapshot(nodes, ()),
                      title=support.HOSTILE)
        self.assertNotIn('<script', text)
        self.assertNotIn('\x1b', text)
        self.assertEqual(len(self.boxes(text)), 2)

    def test_difference(self):
        boxes = self.boxes(render('flamegraph', support.Snapshot(),
                                  support.older()))
        gone = next(text for text in boxes if text.startswith('gone'))
        self.assertIn('-60 B', gone)

    def test_nothing_to_show(self):
        self.assertEqual(self.boxes(render('flamegraph',
                                           support.Snapshot([], ()))), {})


class SourcesTest(unittest.TestCase):
    def test_categories(self):
        category = Files(None).category
        self.assertEqual(category('/x/app.py'), 0)
        self.assertEqual(category('/v/site-packages/rich/table.py'), 1)
        self.assertEqual(category(json.__file__), 2)
        self.assertEqual(category('<frozen importlib._bootstrap>'), 3)


class FormatsTest(unittest.TestCase):
    def test_same_input_same_bytes(self):
        for name in {*formats_here(self, FORMATS)} - {'text', 'csv', 'json'}:
            with self.subTest(name):
                self.assertEqual(render(name, support.Snapshot()),
                                 render(name, support.Snapshot()))

    def test_every_format_says_how_far_it_is(self):
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start()
        kept = [[number] for number in range(100)]
        kept += [str(number) for number in range(100)]
        snapshot = tracemalloc.take_snapshot()
        del kept
        for name in {*formats_here(self, FORMATS)} - {'text'}:
            with self.subTest(name):
                sizes = []

                def track(items):
                    sizes.append(len(items))
                    return iter(items)

                render(name, snapshot, track=track)
                self.assertGreater(max(sizes, default=0), 1)


if __name__ == '__main__':
    unittest.main()
