"""Names that could be markup, in the HTML report and in a real browser."""

import json
import re
import tempfile
import unittest

from tracemalloc.modules import module_of
from tracemalloc.printable import printable
from test.test_pytracemalloc import support
from test.test_pytracemalloc.report_page import PageCase, render

NAMES = {
    'script': '</script><script>window.hacked=1</script>',
    'image': '<img src=x onerror="window.hacked=1">',
    'quotes': '"\'`><svg/onload=window.hacked=1>',
    'entity': '&lt;img src=x onerror=window.hacked=1&gt;&#0;',
    'comment': '<!--<script>',
    'template': '${window.hacked=1}{{data}}{{script}}',
    'url': 'javascript:window.hacked=1',
    'separators': 'a\u2028b\u2029c\x85d',
    'controls': 'a\0b\x1b[31mc\r\nd',
    'surrogate': 'a\ud800b\udcffc',
    'direction': 'a\u202egnp.exe\u2066b',
    'spaces': 'a  b   c',
    'prototype': '__proto__',
    'astral': 'h\u00e9 \u65e5\u672c \U0001f40d',
    'long': 'x' * 10_000,
}


def hostile_nodes():
    return [(parent, f'/app/{support.HOSTILE}.py', lineno, support.HOSTILE,
             *values)
            for parent, _, lineno, _, *values in support.NODES]


class PageTest(unittest.TestCase):
    def test_markup_is_data(self):
        page = render(support.Snapshot(hostile_nodes(),
                                       [(2, support.HOSTILE, 10, 1)]),
                      title=support.HOSTILE)
        # Data, columns and code.
        self.assertEqual(page.count('<script'), 3)
        self.assertNotIn('<img', page)
        data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
        self.assertIn(printable(support.HOSTILE),
                      json.loads(data)['strings'])


class BrowserTest(PageCase):
    def check_harmless(self):
        self.assertIsNone(self.browser.run('window.hacked'))
        self.assertEqual(self.browser.run(
            "document.querySelectorAll('img, svg, script').length"), 5)

    def open_with(self, name):
        """A report that has a name in every place."""
        values = 100, 1, 100, 1, 100, 1, 100, 1
        snapshot = support.Snapshot(
            [(-1, f'/app/{name}.py', 3, name, 1, *values),
             (0, f'/app/{name}.py', 4, f'{name}.f', 1, *values)],
            [(0, name, 100, 1)])
        snapshot.metadata = {name: name, ('k', name): [name]}
        snapshot.freelists = {name: (1, 9)}
        self.open(snapshot, title=name)

    def test_every_place(self):
        for kind, name in NAMES.items():
            shown = printable(name)
            with self.subTest(kind):
                self.open_with(name)
                self.assertEqual(
                    self.browser.run('document.title').split(), shown.split())
                self.assertEqual(self.text('#title'), shown)
                self.assertIn(shown, self.text('#metrics'))
                self.check_table(shown, printable(module_of(
                    f'/app/{name}.py')))
                self.check_boxes(shown)
                self.check_search(shown)
                self.check_harmless()

    def check_table(self, shown, module):
        for by, column in (('line', 4), ('function', 4), ('file', 4),
                           ('module', 4), ('type', 3)):
            self.press_button(f'#keys [data-name={by}]')
            cell = self.column(column)[0]
            self.assertIn(module if by == 'module' else shown, cell)
            self.press_button('#table-room [role=row]')
            self.assertIn(cell, self.text('#selected'))
            if by != 'type':
                self.assertIn(f'{shown}: 100 B live', self.text('#parts'))

    def check_boxes(self, shown):
        point = self.point(shown)
        self.browser.move(*point)
        tip = self.text('#tip')
        self.assertIn(shown[:100], tip)
        self.assertLess(len(tip), 1500)
        box = self.browser.run("""(() => {
            const { top, bottom, right } = $('tip').getBoundingClientRect();
            return top >= 0 && bottom <= innerHeight && right <= innerWidth;
        })()""")
        self.assertTrue(box, 'the tip is not in the window')
        self.browser.click(*point)
        self.assertIn(shown, self.text('#selected'))

    def check_search(self, shown):
        self.browser.run("$('search').value = ''; $('search').focus()")
        self.browser.type(shown)
        self.browser.press('Enter')
        self.assertEqual(self.text('#matched'), 'found 100.0 %, 200 B')
        self.browser.run("$('row-filter').focus()")
        self.browser.type(shown)
        self.browser.run("$('row-filter').value = ''")

    def test_all_at_once(self):
        self.open(support.Snapshot(hostile_nodes(),
                                   [(2, support.HOSTILE, 10, 1)]),
                  title=support.HOSTILE)
        for selector in ('#table-room [role=row]', '#keys [data-name=type]',
                         '#table-room [role=row]', '#reversed',
                         '#by-function', '[data-name=peak]'):
            self.press_button(selector)
            self.check_harmless()

    def test_right_to_left(self):
        """Letters that run from right to left, which are no control
        characters, do not turn around the figures beside them."""
        name = '\u05d0\u05d1\u05d2'
        values = 700, 9, 700, 9, 700, 9, 700, 9
        self.open(support.Snapshot([(-1, name, 12, name, 1, *values)],
                                   [(0, name, 700, 9)]))

        def places(selector, *texts):
            """Left edges of texts within an element."""
            return self.browser.run(f'''(() => {{
                const box = document.querySelector({json.dumps(selector)});
                return {json.dumps(texts)}.map(text => {{
                    const walk = document.createTreeWalker(box, 4);
                    let seen = 0;
                    const wanted = box.textContent.indexOf(text);
                    for (let part; part = walk.nextNode();
                         seen += part.data.length) {{
                        if (wanted < seen + part.data.length) {{
                            const range = document.createRange();
                            range.setStart(part, wanted - seen);
                            range.setEnd(part, wanted - seen + 1);
                            return range.getBoundingClientRect().left;
                        }}
                    }}
                }});
            }})()''')

        def check(selector, *texts):
            edges = places(selector, *texts)
            self.assertEqual(edges, sorted(edges), selector)

        self.browser.click(*self.point(name))
        check('#selected', name, '700 B', '100.0')
        check('#parts li', name, '700 B', '9 blocks')
        for by in 'line', 'function', 'type':
            self.press_button(f'#keys [data-name={by}]')
            self.press_button('#table-room [role=row]')
            check('#selected', name, '700 B')
        check('#parts li', '700 B', '9 blocks', name)

    def test_source_lines(self):
        line = 'x = "</script><img src=x onerror=window.hacked=1>\t\0\u202e"'
        with tempfile.NamedTemporaryFile('w', encoding='utf-8',
                                         suffix='.py') as file:
            file.write(line + '\n')
            file.flush()
            nodes = [(-1, file.name, 1, 'f', 1, 5, 1, 5, 1, 5, 1, 0, 0)]
            self.open(support.Snapshot(nodes, ()))
        self.press_button('#table-room [role=row]')
        self.assertEqual(self.text('#source'),
                         '1  ' + printable(line.expandtabs()))
        self.browser.move(*self.point('f'))
        self.assertIn('</script><img', self.text('#tip'))
        self.check_harmless()


if __name__ == '__main__':
    unittest.main()
