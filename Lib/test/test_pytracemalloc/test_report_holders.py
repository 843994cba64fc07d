"""The tree of holders on the page of the HTML report, in a real browser."""

import unittest

from test.test_pytracemalloc import support
from test.test_pytracemalloc.hostile import nasty_graph
from test.test_pytracemalloc.made_graphs import SEQUENCE
from test.test_pytracemalloc.report_page import PageCase
from test.test_pytracemalloc.test_graph_why import catalogue
from tracemalloc.holders import Holder

_BOXES = '''Array.from({ length: graph.tree.count }, (_, node) => [
    graph.tree.parent[node], graph.name(node), graph.tree.value[node],
    graph.tree.own[node], graph.tree.objects[node]])'''


class Made(support.Snapshot):
    """A snapshot with a tree of holders that is made by hand."""

    has_references = True

    def __init__(self, root):
        super().__init__()
        self.root = root

    def holders(self, least=None):
        return self.root

    def retained(self, key_type):
        return []


def bushy(count):
    """A tree of *count* holders, some of them deep."""
    root = Holder('', 'everything', retained=0)
    made = [root]
    for index in range(1, count):
        parent = made[index - 1 if index % 50 else index * 7 // 10]
        holder = Holder(f'.attribute_{index % 1000}', 'Thing', 'Thing',
                        '/app/shop.py', index % 3000, 1, index % 4093 + 1,
                        index % 4093 + 1)
        parent.children.append(holder)
        made.append(holder)
    parents = {id(child): holder for holder in made
               for child in holder.children}
    for holder in reversed(made[1:]):
        parents[id(holder)].retained += holder.retained
    return Made(root)


class HoldersTest(PageCase):
    def show(self, snapshot, *more):
        self.open(snapshot, *more)
        self.press_button('#measures [data-name=held]')

    def node(self, label):
        return self.browser.run(f'''(() => {{
            for (let node = 0; node < graph.tree.count; node++) {{
                if (graph.name(node).startsWith({label!r})) {{
                    return node; }} }} }})()''')

    def middle(self, node):
        return self.browser.run(f'''(() => {{
            const {{ tree }} = graph;
            const area = graph.canvas.getBoundingClientRect();
            const scale = graph.width / tree.value[0];
            return [area.left + (tree.start[{node}]
                                 + tree.value[{node}] / 2) * scale,
                    area.top + graph.top(tree.depth[{node}]) + ROW / 2];
        }})()''')

    def test_only_with_references(self):
        self.open(support.Snapshot())
        self.assertNotIn('Held by', self.text('#measures'))
        self.open(catalogue(5).snapshot(), catalogue(3).snapshot())
        self.assertIn('DifferenceHeld by', self.text('#measures'))
        # Of the new one alone.
        self.open(catalogue(5).snapshot(), support.older())
        self.press_button('#measures [data-name=held]')
        self.assertFalse(self.browser.run('Boolean(graph.tree.change)'))

    def test_opens(self):
        self.open(catalogue(5).snapshot(), by='holder')
        self.assertEqual(self.browser.run('view.measure'), 'held')
        self.assertEqual(self.browser.run('graph.name(1)'),
                         'catalogue  module')
        self.open(catalogue(5).snapshot(), catalogue(3).snapshot(),
                  by='holder')
        self.assertEqual(self.browser.run('view.measure'), 'held')

    def test_boxes_are_the_holders(self):
        snapshot = catalogue(100).snapshot()
        self.show(snapshot)
        expected = []
        todo = [(snapshot.holders(), -1)]
        while todo:
            holder, parent = todo.pop()
            todo += [(child, len(expected))
                     for child in reversed(holder.children)]
            expected.append([parent, holder.retained, holder.size,
                             holder.count])
        boxes = self.browser.run(_BOXES)
        self.assertEqual([[parent, *figures] for parent, _, *figures
                          in boxes], expected)
        labels = [label for _, label, *_ in boxes]
        self.assertEqual(labels[:2], ['everything', 'catalogue  module'])
        self.assertIn('__self__: shop.Basket  shop.py:26', labels)
        self.assertGreater(self.browser.run('graph.boxes'), 4)

    def compare(self, new, old):
        """Show what has changed; return {label: (old, new, width)}."""
        new, old = new.snapshot(), old.snapshot()
        self.show(new, old)
        boxes = self.browser.run('''(() => {
            const { tree } = graph;
            return Array.from({ length: tree.count }, (_, node) => [
                tree.parent[node], graph.name(node), tree.retained[node],
                tree.change[node], tree.objects[node], tree.grown[node],
                tree.value[node]]); })()''')
        expected = []
        todo = [(new.compare_holders(old), -1)]
        while todo:
            holder, parent = todo.pop()
            todo += [(child, len(expected))
                     for child in reversed(holder.children)]
            expected.append([parent, holder.retained, holder.retained_diff,
                             holder.count, holder.count_diff])
        self.assertEqual([[parent, *figures[:-1]]
                          for parent, _, *figures in boxes], expected)
        # A box has room for the larger of before and after, and for what it
        # holds.
        room = [0] * len(boxes)
        for parent, _, *_, width in boxes[1:]:
            room[parent] += width
        for (_, label, after, change, *_, width), held in zip(boxes, room):
            self.assertGreaterEqual(width, max(after, after - change), label)
            self.assertGreaterEqual(width, held, label)
        return {label: (after - change, after, width)
                for _, label, after, change, *_, width in boxes}

    def test_comparison_has_grown(self):
        boxes = self.compare(catalogue(100), catalogue(40))
        self.assertEqual(boxes['.items: object  shop.py:30'],
                         (40 * 2400, 100 * 2400, 100 * 2400))
        self.assertGreater(self.browser.run('graph.tree.change[0]'), 60 * 2560)
        self.assertIn('grown', self.text('#legend'))
        node = self.node('__self__')
        x, y = self.middle(node)
        self.browser.click(x, y)
        self.assertRegex(
            self.text('#selected'),
            r'^__self__: shop\.Basket  shop\.py:26 — 250 KiB retained, '
            r'9\d\.\d % of all — \+150 KiB since the old snapshot — '
            r'100 objects of 15\.6 KiB, \+60 since then — held by ')
        self.assertEqual(self.text('#parts'),
                         '.items: object  shop.py:30: 234 KiB retained, '
                         '+141 KiB')
        self.assertTrue(self.browser.run(f'graph.color({node})')
                        .startswith('hsl(6 '))

    def test_comparison_has_shrunk(self):
        boxes = self.compare(catalogue(40), catalogue(100))
        self.assertEqual(boxes['.items: object  shop.py:30'],
                         (100 * 2400, 40 * 2400, 100 * 2400))
        self.assertTrue(self.browser.run(
            f"graph.color({self.node('.items')})").startswith('hsl(214 '))

    def test_comparison_has_what_is_gone_and_what_is_new(self):
        def hooks(name):
            graph = catalogue(5)
            held = graph.add(SEQUENCE, size=9999, place=('hooks.py', 3))
            graph.module('hooks', **{name: held})
            return graph

        boxes = self.compare(hooks('LATE'), hooks('EARLY'))
        self.assertEqual(boxes['.LATE: object  hooks.py:3'], (0, 9999, 9999))
        self.assertEqual(boxes['.EARLY: object  hooks.py:3'], (9999, 0, 9999))
        # Both have room below the module, which has not changed.
        self.assertEqual(boxes['hooks  module'][2], 9999 * 2
                         + boxes['hooks  module'][0] - 9999)
        self.browser.click(*self.middle(self.node('.EARLY')))
        self.assertIn('0 B retained, 0.0 % of all — −9.8 KiB since the old '
                      'snapshot — 0 objects, −1 since then',
                      self.text('#selected'))

    def test_controls(self):
        self.show(catalogue(5).snapshot())
        shown = '''['units', 'reversed', 'by-function'].map(id =>
            $(id).getClientRects().length > 0)'''
        self.assertEqual(self.browser.run(shown), [False] * 3)
        for key in 'rmu':
            self.browser.press(key)
        self.assertEqual(self.browser.run(
            '[view.reversed, view.merged, view.unit]'),
            [False, False, 'bytes'])
        # The table beside it is of live memory.
        self.assertIn('shop.py:26', ' '.join(self.column(5)))
        self.browser.press('f')
        self.press_button('#shapes [data-name=flame]')
        self.assertFalse(self.browser.run('graph.icicle'))
        self.browser.press('1')
        self.assertEqual(self.browser.run('view.measure'), 'live')
        self.assertEqual(self.browser.run(shown), [True] * 3)
        self.browser.press('m')
        self.browser.press('5')
        self.assertEqual(self.browser.run('view.measure'), 'held')

    def test_mouse(self):
        self.show(catalogue(100).snapshot())
        node = self.node('__self__')
        x, y = self.middle(node)
        self.browser.send('Input.dispatchMouseEvent', type='mouseMoved', x=x,
                          y=y)
        self.browser.settle()
        self.assertRegex(
            self.text('#tip'),
            r'^__self__: shop\.Basket  shop\.py:26\n250 KiB retained, '
            r'9\d\.\d % of all\n100 objects of 15\.6 KiB\n'
            r'held by \[\.\.\.\]: bound method Basket\.refresh')
        self.browser.click(x, y)
        self.assertEqual(self.browser.run('graph.zoomed'), node)
        self.assertIn('250 KiB retained', self.text('#selected'))
        self.assertRegex(self.text('#parts'),
                         r'^\.items: .*: 234 KiB retained$')
        self.browser.press('Escape')
        self.assertEqual(self.browser.run('graph.zoomed'), 0)

    def test_keyboard(self):
        self.show(catalogue(100).snapshot())
        self.browser.run("$('graph').focus()")
        for label in 'catalogue  module', '.CATALOGUE', '.listeners':
            self.browser.press('ArrowDown')
            self.assertTrue(self.text('#selected').startswith(label),
                            self.text('#selected'))
        self.browser.press('ArrowUp')
        self.assertIn('.CATALOGUE', self.text('#selected'))
        self.browser.press('Enter')
        self.assertEqual(self.browser.run('graph.zoomed'),
                         self.node('.CATALOGUE'))

    def test_search(self):
        self.show(catalogue(100).snapshot())
        for text in 'BASKET.refresh', 'catalogue.py:9', '__self__':
            self.search(text)
            marked = self.browser.run(f'''
                Array.from(graph.matches.keys()).filter(node =>
                    graph.matches[node]).map(node => graph.name(node))''')
            self.assertTrue(all(text.lower() in label.lower()
                                for label in marked), marked)
        self.assertEqual(len(marked), 1)
        self.assertRegex(self.text('#matched'), r'^found 9\d\.\d %, 250 KiB$')
        self.search('')
        self.assertEqual(self.text('#matched'), '')

    def test_rows_mark_boxes(self):
        self.show(catalogue(100).snapshot())
        row = next(i for i, name in enumerate(self.column(5))
                   if 'shop.py:26' in name)
        self.browser.run("document.querySelectorAll('#table-room [role=row]')"
                         f'[{row}].click()')
        self.browser.settle()
        self.assertEqual(self.browser.run(
            'Array.from(graph.matches.keys()).filter(node =>'
            ' graph.matches[node])'), [self.node('__self__')])

    def test_retained_is_in_all_tables(self):
        graph = catalogue(100)
        graph.blocks = [(address, size, line, graph.classes.setdefault(
                             'shop.Basket' if size == 160 else '<memory>',
                             len(graph.classes)))
                        for address, size, line, _ in graph.blocks]
        snapshot = graph.snapshot()
        self.show(snapshot)
        for by, key, name, place in (
                ('line', 'lineno', 'shop.py:26', ('shop.py', 26)),
                ('function', 'function', 'shop.py', ('shop.py', None, 0)),
                ('file', 'filename', 'shop.py', 'shop.py'),
                ('module', 'module', 'shop', 'shop'),
                ('type', 'type', 'shop.Basket', 'shop.Basket')):
            with self.subTest(by):
                self.press_button(f'#keys [data-name={by}]')
                head = self.browser.run(
                    "Array.from($('table-head').children,"
                    " cell => cell.textContent)")
                at = len(head) - 2
                self.assertEqual(head[at], 'Retained')
                shown = dict(zip(self.column(at + 1), self.column(at)))
                known = {group.key: group.retained
                         for group in snapshot.retained(key)}
                self.assertEqual(shown[name], f'{known[place] / 1024:.0f} KiB')
                self.assertGreater(known[place], 160 * 100)

    def test_retained_of_the_fold_that_is_known(self):
        self.show(catalogue(5).snapshot())
        self.browser.press('1')
        self.assertIn('Retained', self.text('#table-head'))
        for key in 'f', '2':
            self.browser.press(key)
            self.assertNotIn('Retained', self.text('#table-head'))
            self.browser.press('f' if key == 'f' else '1')
        self.open(support.Snapshot())
        self.assertNotIn('Retained', self.text('#table-head'))

    def test_hostile_names(self):
        self.show(nasty_graph().snapshot())
        for label in self.browser.run('model.strings'):
            self.assertTrue(label.isprintable(), label)
        self.assertGreater(self.browser.run('graph.boxes'), 2)

    def test_hundred_thousand_nodes(self):
        self.show(bushy(100_000))
        self.assertEqual(self.browser.run('graph.tree.count'), 100_000)
        # As the flame graph's, with a wide margin.
        times = self.browser.run('''(() => {
            const best = work => Math.min(...[1, 2, 3].map(() => {
                const start = performance.now();
                work();
                return performance.now() - start; }));
            return [best(() => graph.draw()),
                    best(() => { trees.clear(); change({ measure: 'held' }); }),
                    best(() => { $('search').value = 'attribute_7';
                                 search(); }),
                    best(() => { graph.zoom(graph.tree.order[5]);
                                 graph.draw(); })]; })()''')
        for limit, took in zip((50, 2000, 200, 50), times):
            self.assertLess(took, limit, times)


if __name__ == '__main__':
    unittest.main()
