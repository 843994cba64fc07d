"""Why objects live, in words: graphs that are made by hand."""
import unittest

from test.test_pytracemalloc.made_graphs import (
    CELL, DICT, FRAME, IMMORTAL, MODULE, PLAIN, SEQUENCE, SET, Graph)

SITE = ('shop.py', 26)


def catalogue(count=1000):
    """The leak of the tutorial: listeners that are never taken away."""
    graph = Graph()
    method_type = graph.cls('method', 'builtins')
    refresh = graph.function('Basket.refresh', 'shop.py', 'shop')
    basket = graph.cls('Basket', 'shop', refresh=refresh)
    catalogue = graph.cls('Catalogue', 'catalogue')
    listeners = graph.add(SEQUENCE, buffers=[(8000, ('catalogue.py', 9))],
                          size=56, place=('catalogue.py', 5))
    for _ in range(count):
        items = graph.add(SEQUENCE, size=2400, place=('shop.py', 30))
        made = graph.add_named(PLAIN, {'.items': items}, type=basket,
                               size=160, place=SITE)
        method = graph.method(refresh, made, size=64, place=('shop.py', 27))
        method.type = method_type.number
        listeners.references.append(method)
    one = graph.add_named(PLAIN, {'.listeners': listeners}, type=catalogue,
                          size=48, place=('catalogue.py', 20))
    graph.module('catalogue', Catalogue=catalogue, CATALOGUE=one)
    graph.module('shop', Basket=basket)
    return graph


class WordsTest(unittest.TestCase):
    maxDiff = None

    def check(self, graph, expected, **question):
        why = graph.snapshot().why(**question)
        self.assertEqual([str(path) for path in why.paths], expected)
        return why

    def one(self, name='Row', size=100):
        """A graph with a class, and an object of it."""
        graph = Graph()
        kind = graph.cls(name)
        graph.module('__main__', **{name: kind})
        return graph, graph.add(PLAIN, type=kind, size=size, place=SITE)

    def test_listeners(self):
        why = self.check(
            catalogue(),
            ['catalogue.CATALOGUE.listeners[...] -> bound method '
             'Basket.refresh -> shop.Basket (1,000)'], site='shop.py:26')
        self.assertEqual((why.count, why.size, why.retained),
                         (1000, 160_000, 2_560_000))
        self.assertEqual(why.lines()[0],
                         '1,000 shop.Basket (156 KiB, with what only they '
                         'hold 2.4 MiB) are held by:')

    def test_one(self):
        # A single object has the index in full.
        graph = catalogue(1)
        self.check(graph, ['catalogue.CATALOGUE.listeners[0] -> bound method '
                           'Basket.refresh -> shop.Basket (1)'],
                   type='shop.Basket')

    def test_by_type_without_module_and_by_address(self):
        graph = catalogue(10)
        address = next(node.address for node in graph.objects
                       if node.number and any(
                           name == '.items' for (_, names), number
                           in graph.shapes.items() if number == node.shape
                           for name in names))
        snapshot = graph.snapshot()
        self.assertEqual(snapshot.why(type='Basket').count, 10)
        why = snapshot.why(address=address)
        self.assertEqual((why.count, why.size), (1, 160))
        # Anywhere in the block.
        self.assertEqual(snapshot.why(address=address + 100).count, 1)
        # The buffer of a list is of the list.
        why = snapshot.why(site=('catalogue.py', 9))
        self.assertEqual((why.count, why.size), (1, 8056))

    def test_nothing(self):
        snapshot = catalogue(1).snapshot()
        for question in (dict(site='shop.py:27000'), dict(type='Trolley'),
                         dict(address=1)):
            why = snapshot.why(**question)
            self.assertEqual((why.count, why.paths), (0, []))

    def test_bad_questions(self):
        snapshot = catalogue(1).snapshot()
        for text, question in (
                ('give one of', {}),
                ('give one of', dict(type='a', address=1)),
                ('FILE:LINE', dict(site='shop.py')),
                ('positive', dict(address=-1)),
                ('at least 1', dict(type='a', most=0))):
            with self.subTest(question), \
                    self.assertRaisesRegex(ValueError, text):
                snapshot.why(**question)

    def test_local_variable(self):
        graph, row = self.one()
        rows = graph.add(SEQUENCE, row)
        graph.thread(graph.frame('main', 12, rows=rows))
        self.check(graph, ['local rows[0] of main (app.py:12) -> Row (1)'],
                   type='Row')

    def test_closure(self):
        graph, row = self.one()
        callback = graph.function('make.<locals>.callback',
                                  closure={'row': row})
        graph.module('app', HOOKS=graph.add(SEQUENCE, callback))
        self.check(graph, ['app.HOOKS[0] -> function make.<locals>.callback, '
                           'closure row -> Row (1)'], type='Row')

    def test_generator(self):
        graph, row = self.one()
        generator = graph.frame('produce', 3, row=row)
        generator.type = graph.cls('generator', 'builtins').number
        graph.module('app', RUNNING=generator)
        self.check(graph, ['app.RUNNING -> generator produce, local row -> '
                           'Row (1)'], type='Row')

    def test_class_attribute(self):
        graph, row = self.one()
        registry = graph.add(DICT, graph.name('x'), row)
        base = graph.cls('Base', 'app', registry=registry)
        graph.module('app', Base=base)
        self.check(graph, ['app.Base.registry[...] -> Row (1)'], type='Row')

    def test_instance_dict(self):
        graph, row = self.one()
        owner = graph.add(PLAIN, __dict__=graph.namespace(row=row))
        graph.module('app', OWNER=owner)
        self.check(graph, ['app.OWNER.row -> Row (1)'], type='Row')

    def test_keys_only_if_recorded(self):
        for has_keys in False, True:
            graph, row = self.one()
            graph.has_keys = has_keys
            cache = graph.add(DICT, graph.add(text='secret'), row)
            graph.module('app', CACHE=cache)
            key = "'secret'" if has_keys else '...'
            self.check(graph, [f'app.CACHE[{key}] -> Row (1)'], type='Row')

    def test_set(self):
        graph, row = self.one()
        graph.module('app', SEEN=graph.add(SET, row))
        self.check(graph, ['app.SEEN{...} -> Row (1)'], type='Row')

    def test_c_code(self):
        graph, row = self.one()
        row.surplus = 1
        self.check(graph, ['C code -> Row (1)'], type='Row')

    def test_immortal(self):
        graph, row = self.one()
        row.surplus = IMMORTAL
        self.check(graph, ['immortal -> Row (1)'], type='Row')

    def test_a_name_before_c_code(self):
        graph, row = self.one()
        row.surplus = 1
        graph.module('app', ROW=row)
        self.check(graph, ['app.ROW -> Row (1)'], type='Row')

    def test_garbage(self):
        graph, row = self.one()
        row.references.append(row)
        why = self.check(graph, [], type='Row')
        self.assertEqual(why.unreached, 1)
        self.assertIn('1 that nobody holds: the cyclic collector will free '
                      'it', why.lines())

    def test_linked_list(self):
        # A million links are one path, and one line.
        graph, head = self.one('Node')
        nodes = [head]
        for _ in range(50_000):
            node = graph.add(PLAIN, size=48, place=SITE)
            node.type = head.type
            nodes.append(node)
        shape = graph.shape(PLAIN, '.next')
        for node, following in zip(nodes, nodes[1:]):
            node.shape, node.references = shape, [following]
        graph.module('app', HEAD=head)
        why = self.check(graph, ['app.HEAD -> Node (1, 50,000 behind)'],
                         type='Node')
        self.assertEqual(why.retained, why.size)
        tail, = graph.snapshot().why(address=nodes[-1].address).paths
        self.assertRegex(tail.text, r'^app\.HEAD(\.next)+ -> \.\.\.(\.next)+ '
                                    r'-> Node, and so on$')
        self.assertLess(len(tail.text), 600)

    def test_several_paths(self):
        graph = Graph()
        kind = graph.cls('Row')
        rows = [graph.add(PLAIN, type=kind, size=10, place=SITE)
                for _ in range(60)]
        graph.module('app', Row=kind, A=graph.add(SEQUENCE, *rows[:40]),
                     B=graph.add(SEQUENCE, *rows[40:55]),
                     C=graph.add(SEQUENCE, *rows[55:59]), D=rows[59])
        why = self.check(graph, ['app.A[...] -> Row (40)',
                                 'app.B[...] -> Row (15)'],
                         type='Row', most=2)
        self.assertEqual(why.shapes, 4)
        self.assertIn('    2 more paths (5)', why.lines())

    def test_blocks_of_no_object(self):
        graph, row = self.one()
        row.surplus = 1
        graph.block(500, SITE)
        why = self.check(graph, ['C code -> Row (1)'], site=SITE)
        self.assertEqual((why.blocks, why.block_size), (1, 500))
        self.assertIn('1 block (500 B) of no known object', why.lines())


class HoldersTest(unittest.TestCase):
    def find(self, holder, *names):
        for name in names:
            holder, = [child for child in holder.children
                       if str(child).startswith(name)]
        return holder

    def test_tree(self):
        graph = catalogue()
        root = graph.snapshot().holders(least=0)
        baskets = self.find(root, 'module catalogue', '.CATALOGUE',
                            '.listeners', '[...]: bound method', '__self__')
        self.assertEqual((baskets.type, baskets.count, baskets.size),
                         ('shop.Basket', 1000, 160_000))
        self.assertEqual((baskets.filename, baskets.lineno), SITE)
        self.assertEqual(baskets.retained, 2_560_000)
        listeners = self.find(root, 'module catalogue', '.CATALOGUE',
                              '.listeners')
        # Bound methods, the list with its items.
        self.assertEqual(listeners.retained, 2_560_000 + 64_000 + 8056)
        self.assertEqual(root.retained,
                         sum(size for _, size, *_ in graph.blocks))

    def test_cut(self):
        root = catalogue().snapshot().holders()
        seen = []
        stack = [root]
        while stack:
            seen.append(stack.pop())
            stack += seen[-1].children
        self.assertLess(len(seen), 10)

    def test_shared_class_is_of_its_module(self):
        # Two modules and the objects refer to it: only the root dominates.
        graph = Graph()
        kind = graph.cls('Basket', 'shop')
        kind.address = graph.block(1064) + 16
        graph.module('shop', Basket=kind)
        graph.module('app', Basket=kind)
        root = graph.snapshot().holders(least=1)
        self.assertEqual(self.find(root, 'module shop', '.Basket').size, 1064)

    def test_a_long_list_is_small(self):
        graph = Graph()
        kind = graph.cls('Node')
        before = head = graph.add_named(PLAIN, {'.next': None}, type=kind,
                                        size=48)
        for _ in range(30_000):
            node = graph.add_named(PLAIN, {'.next': None}, type=kind, size=48)
            before.references = [node]
            before = node
        graph.module('app', HEAD=head)
        holder = self.find(graph.snapshot().holders(least=0), 'module app',
                           '.HEAD')
        node, = holder.children
        self.assertTrue(node.repeats)
        self.assertEqual((node.count, node.children), (30_000, []))
        self.assertEqual(holder.retained, 30_001 * 48)

    def test_nobodys(self):
        graph = Graph()
        graph.block(400)
        graph.block(100, SITE)
        row = graph.add(PLAIN, size=30)
        row.references.append(row)
        root = graph.snapshot().holders()
        self.assertEqual([(str(child), child.retained) for child
                          in root.children[0].children],
                         [('blocks (app.py:1)', 400),
                          ('blocks (shop.py:26)', 100)])
        self.assertEqual([(str(child), child.retained) for child
                          in root.children],
                         [('blocks of no known object', 500),
                          ('held by nobody, the cyclic collector will free '
                           'it', 30)])
        self.assertEqual(root.retained, 530)

    def test_difference(self):
        def make(count, line):
            graph = Graph()
            rows = [graph.add(PLAIN, size=100) for _ in range(count)]
            local = [graph.add(PLAIN, size=50) for _ in range(count)]
            graph.module('app', A=graph.add(SEQUENCE, *rows))
            graph.module('shop', A=graph.add(PLAIN, size=70))
            graph.thread(graph.frame('main', line,
                                     b=graph.add(SEQUENCE, *local)))
            return graph.snapshot()
        root = make(30, 7).compare_holders(make(10, 5), least=1)
        app = self.find(root, 'module app')
        self.assertEqual((app.retained, app.retained_diff), (3000, 2000))
        rows = self.find(app, '.A', '[...]')
        self.assertEqual((rows.count, rows.count_diff), (30, 20))
        self.assertEqual(self.find(root, 'module shop').retained_diff, 0)
        # A frame is the same wherever it is.
        rows = self.find(root, 'threads', 'thread', 'main', 'local b', '[...]')
        self.assertEqual((rows.retained, rows.retained_diff), (1500, 1000))
        self.assertEqual(root.retained_diff, 3000)
        self.assertEqual([str(child) for child in root.children],
                         ['module app', 'threads', 'module shop'])

    def test_closure(self):
        graph = Graph()
        row = graph.add(PLAIN, type=graph.cls('Row'), size=100)
        graph.module('app', hook=graph.function('make.<locals>.hook',
                                                closure={'row': row}))
        root = graph.snapshot().holders(least=1)
        self.assertEqual(
            self.find(root, 'module app', '.hook', 'closure row').size, 100)


class RetainedTest(unittest.TestCase):
    def test_by_type_and_line(self):
        snapshot = catalogue().snapshot()
        by_type = {group.key: group for group in snapshot.retained('type')}
        basket = by_type['shop.Basket']
        self.assertEqual(basket[1:], (1000, 160_000, 2_560_000))
        self.assertEqual(by_type['catalogue.Catalogue'].retained,
                         48 + 2_560_000 + 64_000 + 8056)
        by_line = {tuple(group.key): group
                   for group in snapshot.retained('lineno')}
        self.assertEqual(by_line[SITE].retained, 2_560_000)
        by_file = {group.key: group.retained
                   for group in snapshot.retained('filename')}
        self.assertEqual(by_file['shop.py'], 2_560_000 + 64_000)
        by_module = {group.key: group.retained
                     for group in snapshot.retained('module')}
        self.assertEqual(by_module['catalogue'],
                         48 + 2_560_000 + 64_000 + 8056)
        found = snapshot.retained('type+lineno')
        self.assertIn(('shop.Basket', SITE),
                      [(group.key[0], group.key[1][:2]) for group in found])
        self.assertEqual([group.retained for group in found],
                         sorted((group.retained for group in found),
                                reverse=True))

    def test_what_holds_itself_counts_once(self):
        graph = Graph()
        kind = graph.cls('Box')
        inner = graph.add(PLAIN, type=kind, size=30)
        outer = graph.add(PLAIN, inner, type=kind, size=50)
        graph.module('app', OUTER=outer)
        box, = [group for group in graph.snapshot().retained('type')
                if group.key == 'Box']
        self.assertEqual(box, ('Box', 2, 80, 80))

    def test_unknown_key(self):
        with self.assertRaisesRegex(ValueError, 'unknown key_type'):
            catalogue(1).snapshot().retained('address')

    def test_no_references(self):
        import tracemalloc
        snapshot = tracemalloc.Snapshot([], 1)
        for ask in (lambda: snapshot.retained('type'), snapshot.holders,
                    lambda: snapshot.why(type='int')):
            with self.assertRaisesRegex(ValueError,
                                        'no references: take it with'):
                ask()


if __name__ == '__main__':
    unittest.main()
