"""The HTML report for everyone: axe-core finds no barrier in any of its views,
rows and boxes lead to each other, nothing is said by red and green alone."""

import base64
import itertools
import math
import unittest

from test.test_pytracemalloc import fetched, support
from test.test_pytracemalloc.report_page import PageCase
from test.test_pytracemalloc.test_curve import STEPS
from test.test_pytracemalloc.test_curve import Snapshot as WithHistory
from test.test_pytracemalloc.test_graph_why import catalogue
from test.test_pytracemalloc.test_series import SeriesCase
from tracemalloc.native import NativeFrame

# What the reader does before the page is looked at.
STATES = {
    'opened': '0',
    'a box in a flame graph': 'change({ icicle: false });'
                              'graph.select(graph.tree.order[1]);'
                              'graph.zoom(graph.tree.order[1])',
    'a row, help and metrics': "table.select(0); toggleHelp();"
                               "$('more').open = true",
    'found, but no row': "$('search').value = 'o'; search();"
                         "table.filter('#')",
}
DEFICIENCIES = 'none', 'protanopia', 'deuteranopia', 'tritanopia'


class WithNative(support.Snapshot):
    """C code has taken half of the largest node's memory."""

    def call_tree(self):
        size, node = max((row[5], number)
                         for number, row in enumerate(self.nodes))
        tree = support.CallTree(self.nodes,
                                [(node, '<native>', size // 2, 1)])
        frame = NativeFrame(('/v/lib.so', '', 16, 0))
        tree.by_native = lambda: [(node, (frame,), size // 2, 1)]
        return tree


def views():
    """Yield (name, snapshots, options) for PageCase.open()."""
    yield 'live', [support.Snapshot()], {}
    yield 'comparison', [support.Snapshot(), support.older()], {}
    yield 'history', [WithHistory(STEPS)], {}
    yield 'held by', [catalogue(5).snapshot()], {'by': 'holder'}
    yield ('held by, comparison',
           [catalogue(5).snapshot(), catalogue(3).snapshot()],
           {'by': 'holder'})
    yield 'long title', [support.Snapshot()], {'title': 'long/' * 120}


class AccessCase(PageCase):
    def themes(self):
        """Light and dark, without colours that are still on their way."""
        self.addCleanup(self.browser.media, prefers_color_scheme='light')
        for theme in 'light', 'dark':
            self.browser.media(prefers_color_scheme=theme,
                               prefers_reduced_motion='reduce')
            yield theme

    def check_states(self, **where):
        """In each state axe finds no violation, and nothing is beside the
        window."""
        axe = fetched.axe()
        for state, action in STATES.items():
            self.browser.run(f'{action}; 0')
            self.browser.settle()
            self.browser.run(f'{axe}; 0')
            found = self.browser.run('''axe.run(document, {
                resultTypes: ['violations'],
                rules: { 'target-size': { enabled: true } },
            }).then(({ violations, passes }) => [passes.length,
                violations.flatMap(({ id, nodes }) => nodes.map(
                    node => [id, node.html, node.failureSummary]))])''')
            with self.subTest(state=state, **where):
                self.assertGreater(found[0], 20)
                self.assertEqual(found[1], [])
                self.assertEqual(*self.browser.run(
                    '[document.documentElement.scrollWidth, innerWidth]'))


class AxeTest(AccessCase):
    def test_each_view(self):
        for theme, width in itertools.product(self.themes(), (1280, 360)):
            self.size(width)
            for name, snapshots, options in views():
                self.open(*snapshots, **options)
                self.check_states(view=name, theme=theme, width=width)

    def test_axe_sees_barriers(self):
        self.open(support.Snapshot())
        self.browser.run("$('search').removeAttribute('aria-label');"
                         "$('search').removeAttribute('placeholder')")
        self.browser.run(f'{fetched.axe()}; 0')
        self.assertIn('label', self.browser.run(
            'axe.run().then(({ violations }) => violations.map('
            'violation => violation.id))'))


class SeriesAxeTest(SeriesCase, AccessCase):

    @classmethod
    def setUpClass(cls):
        SeriesCase.setUpClass.__func__(cls)
        AccessCase.setUpClass.__func__(cls)

    def test_series(self):
        self.ok('report', *self.files, '-f', '-o', 'x.html')
        for theme, width in itertools.product(self.themes(), (1280, 360)):
            self.size(width)
            self.browser.open('x.html')
            self.browser.settle()
            self.check_states(theme=theme, width=width)

    def test_areas_and_names_have_numbers(self):
        self.ok('report', *self.files, '-f', '-o', 'x.html')
        self.browser.open('x.html')
        self.browser.settle()
        names, numbers, areas = self.browser.run('''
            ['#bands i', '#numbers b', '#stack .band'].map(selector =>
                Array.from(document.querySelectorAll(selector), part =>
                    part.textContent || part.style.fill))''')
        self.assertEqual(names, [str(number + 1)
                                 for number in range(len(areas))])
        self.assertLessEqual(set(numbers), set(names))
        # A number lies in the area that it is of.
        for number in numbers:
            self.assertEqual(self.browser.run(f'''(() => {{
                const shown = Array.from($('numbers').children).find(
                    part => part.textContent === '{number}');
                const {{ left, top, width, height }} =
                    shown.getBoundingClientRect();
                return stack.under({{ clientX: left + width / 2,
                    clientY: top + height / 2 }})[1] + 1; }})()'''),
                int(number))


class LinkTest(PageCase):
    def row(self):
        return self.browser.run(
            "document.querySelector('[aria-selected=true]')?.textContent")

    def test_box_selects_its_row(self):
        self.open(support.big_snapshot(3000))
        for by in 'line', 'function', 'file', 'module':
            self.press_button(f'#keys [data-name={by}]')
            # Far down, too, where there was no row before.
            for place in 1, 500, 1500:
                self.browser.run(f'graph.select(graph.tree.order[{place}])')
                self.browser.settle()
                label = self.browser.run('''grouping(model, view.by).label(
                    grouping(model, view.by).keys[
                        graph.tree.frame[graph.selected]])''')
                self.assertIn(label, self.row())
                inside = self.browser.run('''(() => {
                    const row = document.querySelector('[aria-selected=true]');
                    const { top, bottom } = row.getBoundingClientRect();
                    const box = table.box.getBoundingClientRect();
                    const head = table.head.getBoundingClientRect();
                    return top >= head.bottom - 1 && bottom <= box.bottom + 1;
                })()''')
                self.assertTrue(inside, (by, place))
        self.assertEqual(self.browser.run(
            "$($('table').getAttribute('aria-activedescendant'))"
            ".getAttribute('aria-selected')"), 'true')

    def test_merged_box_selects_a_row_of_its_function(self):
        self.open(support.Snapshot())
        self.press_button('#by-function')
        self.browser.click(*self.point('Shop.load'))
        self.assertIn('Shop.load', self.row())

    def test_box_without_a_row(self):
        self.open(support.Snapshot())
        self.press_button('#keys [data-name=type]')
        self.browser.click(*self.point('main'))
        self.assertIsNone(self.row())

    def test_row_shows_its_boxes(self):
        self.open(support.big_snapshot(3000))
        self.browser.run('graph.zoom(graph.tree.order[3])')
        seen = self.browser.run('''[0, 7, 40].map(at => {
            table.select(at);
            const widest = graph.widestMatch();
            const top = graph.top(graph.tree.depth[widest]);
            return [graph.tree.frame[widest] === table.rows[at].key,
                    graph.isInZoomed(widest),
                    top >= 0 && top + ROW <= graph.height]; })''')
        self.assertEqual(seen, [[True, True, True]] * 3)
        self.assertRegex(self.text('#matched'), r'^found \d+\.\d %, ')
        # What is shown differently keeps them marked; Escape does not.
        self.press_button('#reversed')
        self.assertGreater(self.browser.run('sum(graph.matches)'), 0)
        self.browser.press('Escape')
        self.assertIsNone(self.browser.run('graph.matches'))
        self.assertIsNone(self.row())

    def test_row_of_a_type_marks_its_lines(self):
        self.open(support.Snapshot())
        self.press_button('#keys [data-name=type]')
        self.press_button('#table-room [role=row]')
        self.assertEqual(self.text('#matched'), 'found 49.9 %, 2.9 KiB')

    def test_enter_and_double_click_zoom(self):
        for zoom in ("table.box.focus(); table.box.dispatchEvent("
                     "new KeyboardEvent('keydown', { key: 'Enter' }))",
                     "table.room.firstChild.dispatchEvent("
                     "new MouseEvent('dblclick', { bubbles: true }))"):
            self.open(support.Snapshot())
            self.press_button('#table-room [role=row]')
            self.browser.run(zoom)
            self.browser.settle()
            self.assertEqual(self.browser.run(
                'model.line[graph.tree.frame[graph.zoomed]]'), 7)
            self.assertIn('Shop.load', self.row())

    def test_holders(self):
        self.open(catalogue(5).snapshot(), by='holder')
        node = self.browser.run('''Array.from(graph.tree.order).find(node =>
            rowOf(graph.tree.frame[node]) >= 0)''')
        self.browser.run(f'graph.select({node})')
        self.browser.settle()
        self.assertEqual(self.browser.run(
            'table.rows[table.selected].key'), self.browser.run(
            f'graph.tree.frame[{node}]'))


_COPY = '''globalThis.copy = image => {
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context; }; '''


class ColourTest(AccessCase):
    def see(self, selector, deficiency):
        """Return the colours of elements, as who has the deficiency sees
        them: of a picture of the page that Chromium has changed so."""
        self.browser.send('Emulation.setEmulatedVisionDeficiency',
                          type=deficiency)
        self.addCleanup(self.browser.send,
                        'Emulation.setEmulatedVisionDeficiency', type='none')
        picture = self.browser.send('Page.captureScreenshot')['data']
        return self.browser.run(_COPY + f'''(async () => {{
            const image = new Image();
            image.src = 'data:image/png;base64,{picture}';
            await image.decode();
            const context = copy(image);
            const parts = document.querySelectorAll('{selector}');
            return Array.from(parts, part => {{
                const {{ left, top, width, height }} =
                    part.getBoundingClientRect();
                return Array.from(context.getImageData(
                    left + width / 2, top + height / 2, 1, 1).data);
            }}); }})()''')

    def check_apart(self, selector, least):
        """Any two colours differ, as those of Oklab do."""
        for deficiency in DEFICIENCIES:
            colors = self.see(selector, deficiency)
            self.assertGreater(len(colors), 2)
            for one, other in itertools.combinations(map(oklab, colors), 2):
                self.assertGreater(math.dist(one, other), least, deficiency)

    def test_kinds_of_code(self):
        nodes = [(-1, name, 1, 'f', 1, *(9, 1) * 3, 0, 0) for name in (
            '/app/main.py', '/v/lib/python3.13/site-packages/x.py',
            f'{support._LIB}/threading.py', '<frozen runpy>')]
        snapshot = WithNative(nodes, ())
        self.size(1280)
        for _ in self.themes():
            self.open(snapshot)
            self.assertEqual(self.browser.run(
                "document.querySelectorAll('#legend i').length"), 5)
            self.check_apart('#legend i', 0.1)

    def test_native_code_without_colours(self):
        """Its names are in italics, and what is said of a box names it."""
        self.open(WithNative(support.NODES, ()))
        fonts = self.browser.run('''(() => {
            const fonts = {};
            const draw = graph.context.fillText;
            graph.context.fillText = function (text, ...rest) {
                fonts[text] = this.font;
                draw.call(this, text, ...rest); };
            graph.draw();
            return fonts; })()''')
        italic = [text for text, font in fonts.items() if 'italic' in font]
        self.assertEqual(italic, ['0x10  v/lib.so'])
        self.assertGreater(len(fonts), 3)
        said = self.browser.run('''(() => {
            const { tree } = graph;
            const node = Array.from(tree.order).find(
                node => graph.name(node).startsWith('0x10'));
            return describeNode(node); })()''')
        self.assertIn('native code', said)

    def test_comparison(self):
        self.size(1280)
        for _ in self.themes():
            self.open(support.Snapshot(), support.older())
            # The stripes are not to be in the way.
            self.browser.run("document.querySelector('.striped')"
                             ".className = ''")
            self.check_apart('#legend i', 0.09)

    def test_comparison_without_colours(self):
        """Boxes that have grown or shrunk have a sign; the latter stripes."""
        for snapshots, sign in (((support.Snapshot(), support.older()), '+'),
                                ((support.older(), support.Snapshot()),
                                 '−')):
            self.open(*snapshots)
            rows = self.browser.run(_COPY + '''(() => {
                const { tree } = graph;
                const scale = graph.width / tree.value[0];
                const context = copy(graph.canvas);
                return Array.from(tree.order).filter(
                    node => tree.value[node] * scale > 20).map(node => {
                    const end = (tree.start[node] + tree.value[node]) * scale;
                    const { data } = context.getImageData(end - 14,
                        graph.top(tree.depth[node]) + 2, 10, 1);
                    return [graph.label(node)[0],
                            new Set(new Uint32Array(data.buffer)).size]; });
                })()''')
            self.assertGreater(len(rows), 4)
            for label, colors in rows:
                self.assertEqual(label, sign)
                if sign == '+':
                    self.assertEqual(colors, 1)
                else:
                    self.assertGreater(colors, 2)

    def test_found_boxes_stand_out(self):
        """Even for those who see no colour at all: others are pale."""
        self.open(support.Snapshot())
        before, after = self.browser.run(_COPY + '''(() => {
            const grey = () => {
                graph.draw();
                const [r, g, b] = copy(graph.canvas).getImageData(
                    graph.width - 200, 4, 1, 1).data;
                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const plain = grey();
            table.select(0);
            return [plain, grey()]; })()''')
        self.assertGreater(after - before, 20)


def oklab(color):
    red, green, blue = (
        part / 12.92 if part <= .04045 else ((part + .055) / 1.055) ** 2.4
        for part in (value / 255 for value in color[:3]))
    long = .4122214708 * red + .5363325363 * green + .0514459929 * blue
    middle = .2119034982 * red + .6806995451 * green + .1073969566 * blue
    short = .0883024619 * red + .2817188376 * green + .6299787005 * blue
    long, middle, short = map(math.cbrt, (long, middle, short))
    return (.2104542553 * long + .7936177850 * middle - .0040720468 * short,
            1.9779984951 * long - 2.4285922050 * middle + .4505937099 * short,
            .0259040371 * long + .7827717662 * middle - .8086757660 * short)


class PaperTest(AccessCase):
    def test_print(self):
        """The whole of a sheet is used: rows and boxes that do not fit the
        window, too, and what is shown is said."""
        self.open(support.big_snapshot(3000))
        before = self.browser.run('[graph.width, graph.height]')
        self.browser.run('''addEventListener('beforeprint', () => {
            window.printed = [table.room.children.length, graph.width,
                graph.height / ROW >= Math.min(graph.tree.rows, PAPER.rows),
                $('row-count').textContent]; })''')
        data = base64.b64decode(self.browser.send('Page.printToPDF')['data'])
        self.assertGreater(data.count(b'/Type /Page\n'), 1)
        self.assertEqual(self.browser.run('window.printed'),
                         [100, 720, True, '100 of 1,490 rows'])
        self.assertEqual(self.browser.run('[graph.width, graph.height]'),
                         before)
        self.browser.send('Emulation.setEmulatedMedia', media='print')
        self.addCleanup(self.browser.send, 'Emulation.setEmulatedMedia',
                        media='')
        shown = self.browser.run('''Array.from(document.querySelectorAll(
            'button, input, #scale, #row-count')).filter(part =>
                part.offsetParent).map(part => part.textContent)''')
        self.assertEqual(shown[:3], ['Live', 'Bytes', 'Icicle'])
        self.assertIn('Width of a box: live bytes, with those of what it '
                      'called. 1\u00a0KiB is 1,024 bytes.', shown)


if __name__ == '__main__':
    unittest.main()
