"""Pictures for Graphviz, drawn by Graphviz."""
import re
import subprocess
import unittest
import xml.etree.ElementTree

from test.test_pytracemalloc import fetched
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.hostile import NASTY, nasty_graph
from test.test_pytracemalloc.made_graphs import PLAIN, Graph
from test.test_pytracemalloc.test_graph_why import catalogue
from tracemalloc.printable import printable

# Standard input: a graph. Prints it as SVG.
_DRAW = '''
import { Graphviz } from %r;
import { readFileSync } from 'fs';
const graphviz = await Graphviz.load();
console.log(graphviz.dot(readFileSync(0, 'utf8')));
'''


def draw(text):
    """Return ([title of a box or an arrow, its texts]) of the picture."""
    module = fetched.graphviz() / 'dist' / 'index.js'
    done = subprocess.run(
        ['node', '--input-type=module', '-e', _DRAW % str(module)],
        input=text, capture_output=True, encoding='utf-8',
        timeout=fetched.SECONDS)
    if done.returncode or done.stderr:
        raise AssertionError(done.stderr)
    svg = '{http://www.w3.org/2000/svg}'
    root = xml.etree.ElementTree.fromstring(done.stdout)
    return [(group.find(f'{svg}title').text,
             [part.text for part in group.iter(f'{svg}text')])
            for group in root.iter(f'{svg}g')]


class DotTest(CommandCase):
    def report(self, *args):
        return self.ok('report', 'new', '--format', 'dot', *args)

    def test_holders(self):
        catalogue().snapshot().dump('new')
        drawn = draw(self.report('--title', 'Shop & co.'))
        self.assertEqual(drawn.pop(0), ('holders', ['Shop & co.'] + [
            text for _, texts in drawn for text in texts]))
        names = {title: texts for title, texts in drawn}
        self.assertEqual(names['n0'], ['everything', '2.5 MiB retained'])
        self.assertEqual(names['n1'][0], 'module catalogue')
        listeners, = [title for title, texts in names.items()
                      if texts[1:2] == ['catalogue.py:5']]
        arrow, = [texts for title, texts in names.items()
                  if title.endswith(f'->{listeners}')]
        self.assertEqual(arrow, ['.listeners'])
        # Each but the first is held by one.
        self.assertEqual(sum('->' in title for title in names),
                         sum('->' not in title for title in names) - 1)

    def test_top(self):
        catalogue().snapshot().dump('new')
        for top in 1, 3:
            text = self.report('--top', str(top))
            self.assertEqual(len(re.findall(r'(?m)^ +n\d+ \[', text)),
                             top + 1)

    def test_where_it_goes(self):
        catalogue(3).snapshot().dump('new')
        self.assertEqual(self.ok('report', 'new', '-o', 'out.dot'), '')
        with open('out.dot') as file:
            self.assertEqual(file.read(), self.report())
        self.assertEqual(self.report('--by', 'holder'), self.report())

    def test_paths(self):
        catalogue().snapshot().dump('new')
        drawn = dict(draw(self.ok('why', 'new', 'shop.py:26', '--dot')))
        last, = [title for title, texts in drawn.items()
                 if texts[:1] == ['shop.Basket']]
        self.assertEqual(drawn[last], ['shop.Basket', 'shop.py:26',
                                       '1,000, 156 KiB'])
        arrow, = [title for title in drawn if title.endswith(f'->{last}')]
        self.assertEqual(drawn[arrow], ['__self__'])

    def test_paths_begin_as_one(self):
        graph = Graph()
        kind = graph.cls('Row')
        one, two = [graph.add(PLAIN, type=kind, size=100, place=('a.py', 1))
                    for _ in range(2)]
        graph.module('m', one=one, two=two)
        graph.snapshot().dump('new')
        drawn = draw(self.ok('why', 'new', 'Row', '--dot'))
        for text, count in ('module m', 1), ('.one', 1), ('.two', 1), (
                'Row', 2):
            self.assertEqual(sum(texts[:1] == [text] for title, texts in drawn
                                 if title != 'holders'), count)

    def test_hostile_names(self):
        # Graphviz reads escapes and entities in labels.
        for name in r'\N\G\l\n"]; x', '&lt;b&gt; <b>', 'é \U0001f40d', NASTY:
            graph = nasty_graph(name)
            graph.snapshot().dump('new')
            shown = printable(name)
            for text in self.report(), self.ok('why', 'new', '*:1', '--dot'):
                found = [part for _, texts in draw(text) for part in texts]
                if len(shown) < 30:
                    self.assertIn(f'.{shown}', found)
                else:
                    self.assertIn(f'.{shown[:39]}…{shown[-39:]}', found)


if __name__ == '__main__':
    unittest.main()
