"""HTML reports, and what a test does to one in a browser."""

import io
import json
import os
import re
import tempfile
import unittest

from pytracemalloc.reporters import Subject
from pytracemalloc.reporters.html import HtmlReporter
from tracemalloc.statistic import MEASURES
from test.test_pytracemalloc.browser import EXECUTABLE, Browser


def render(new, old=None, **options):
    file = io.StringIO()
    HtmlReporter().write(Subject(new, old, **options), file)
    return file.getvalue()


def page_data(page):
    """Return the data of a page, with its columns."""
    data, texts = (
        re.search(rf'<script type="{kind}"[^>]*>(.*?)</script>', page,
                  re.DOTALL)[1] for kind in ('application/json', 'text/plain'))
    data = json.loads(data)
    columns = {name: [0] * data['count'] for name in ('frames', *MEASURES)}
    for name, length in data['columns'].items():
        columns[name] = list(_numbers(texts[:length]))
        texts = texts[length:]
    assert not texts
    return data | {'columns': columns}


def _numbers(text):
    number = bits = 0
    for char in text:
        digit = ord(char) - ord('=')
        number |= (digit & 31) << bits
        bits += 5
        if digit < 32:
            yield number
            number = bits = 0


@unittest.skipUnless(EXECUTABLE, 'needs chromium')
class PageCase(unittest.TestCase):
    """A report in a browser; nothing goes wrong on the page."""

    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.__exit__)

    def open(self, *snapshots, **options):
        with tempfile.NamedTemporaryFile('w', suffix='.html', encoding='utf-8',
                                         delete=False) as file:
            self.addCleanup(os.unlink, file.name)
            file.write(render(*snapshots, **options))
        self.path = file.name
        self.browser.open(file.name)
        self.browser.settle()
        self.addCleanup(lambda: self.assertEqual(self.browser.problems(), []))

    def size(self, width, height=740):
        self.browser.send('Emulation.setDeviceMetricsOverride', width=width,
                          height=height, deviceScaleFactor=1, mobile=False)
        self.addCleanup(self.browser.send,
                        'Emulation.clearDeviceMetricsOverride')

    def text(self, selector):
        return self.browser.run(
            f'document.querySelector({json.dumps(selector)}).textContent')

    def column(self, number):
        return self.browser.run(
            "Array.from(document.querySelectorAll('#table-room [role=row]'),"
            f' row => row.children[{number}].textContent)')

    def press_button(self, selector):
        self.browser.run(
            f'document.querySelector({json.dumps(selector)}).click()')
        self.browser.settle()

    def search(self, text):
        self.browser.run(f"$('search').value = {json.dumps(text)}; search()")
        self.browser.settle()

    def point(self, name):
        """Middle of the first box of a function, in the window."""
        return self.browser.run(f'''(() => {{
            const {{ tree }} = graph;
            const node = Array.from(tree.frame).findIndex(frame =>
                frame >= 0 && frameFunction(model, frame) === {json.dumps(name)});
            const area = graph.canvas.getBoundingClientRect();
            const scale = graph.width / tree.value[graph.zoomed];
            return [area.left + (tree.start[node] - tree.start[graph.zoomed]
                                 + tree.value[node] / 2) * scale,
                    area.top + graph.top(tree.depth[node]) + ROW / 2];
        }})()''')
