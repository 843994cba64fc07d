"""The HTML report without a mouse, a network, a screen, or much time."""

import base64
import json
import unittest

from test.test_pytracemalloc import support
from test.test_pytracemalloc.report_page import PageCase, render

# What has the focus: its id, or what it says.
_FOCUS = '''document.activeElement.id || document.activeElement.textContent'''


class KeyboardTest(PageCase):
    def focus(self):
        return self.browser.run(_FOCUS)

    def tab(self, until, shift=False):
        """Go on to the control that is called *until*."""
        seen = []
        while not seen or not seen[-1].startswith(until):
            self.assertLess(len(seen), 30, seen)
            self.browser.press('Tab', shift)
            seen.append(self.focus())
        return seen

    def test_order_and_visibility(self):
        self.open(support.Snapshot())
        seen = self.tab('Metrics')
        self.assertEqual(seen, [
            'theme', 'help-button', 'Live', 'Bytes', 'Icicle', 'reversed',
            'by-function', 'unfold', 'my-code', 'search', 'graph', 'Line',
            'row-filter', 'table', 'Bytes ▾', 'Blocks', 'Average',
            'With callees', 'Line', 'Metrics'])
        for name in reversed(seen[:-1]):
            self.browser.press('Tab', shift=True)
            self.assertEqual(self.focus(), name)
            ring = self.browser.run(
                'getComputedStyle(document.activeElement).outlineStyle')
            self.assertEqual(ring, 'solid', name)

    def test_choices(self):
        self.open(support.Snapshot())
        self.tab('Live')
        for key, name in (('ArrowRight', 'Peak'), ('ArrowDown', 'Total'),
                          ('ArrowLeft', 'Peak'), ('ArrowUp', 'Live'),
                          ('ArrowUp', 'Garbage')):
            self.browser.press(key)
            self.assertEqual(self.focus(), name)
            self.assertEqual(self.browser.run('view.measure'), name.lower())
        self.tab('reversed')
        self.browser.press('Space')
        self.assertTrue(self.browser.run('view.reversed'))

    def test_graph(self):
        self.open(support.Snapshot())
        self.tab('graph')
        steps = [('ArrowDown', '/app/main.py:30'),
                 ('ArrowRight', 'interpreter and imports'),
                 ('ArrowLeft', '/app/main.py:30'), ('ArrowDown', 'main'),
                 ('ArrowDown', 'Shop.load'), ('ArrowUp', 'main'),
                 ('ArrowUp', '/app/main.py:30'), ('ArrowUp', 'all')]
        for key, name in steps:
            self.browser.press(key)
            self.assertTrue(self.text('#selected').startswith(name),
                            (key, self.text('#selected')))
        self.browser.press('i')
        self.browser.press('ArrowUp')        # a flame grows upwards
        self.assertTrue(self.text('#selected').startswith('/app/main.py:30'))
        self.browser.press('Enter')
        self.assertNotEqual(self.browser.run('graph.zoomed'), 0)
        self.browser.press('Escape')
        self.assertEqual(self.browser.run('graph.zoomed'), 0)

    def test_search(self):
        self.open(support.Snapshot())
        self.browser.press('/')
        self.assertEqual(self.focus(), 'search')
        self.browser.type('shop')
        self.browser.press('Enter')
        self.assertEqual(self.focus(), 'graph')
        self.assertTrue(self.text('#selected').startswith(
            'Shop.load  /app/shop.py:7'))
        self.browser.press('Enter')
        self.assertNotEqual(self.browser.run('graph.zoomed'), 0)
        self.browser.press('/')
        self.browser.press('Escape')
        self.assertEqual(self.browser.run("$('search').value"), '')

    def test_table(self):
        self.open(support.Snapshot())
        self.tab('Blocks')
        self.browser.press('Enter')
        self.assertEqual(self.column(1), ['30', '9', '3', '1', '0'])
        self.assertEqual(self.focus(), 'Blocks ▾')
        self.tab('table', shift=True)
        self.browser.press('ArrowDown')
        self.browser.press('ArrowDown')
        name = 'interpreter and imports'
        self.assertIn(name, self.text('[aria-selected=true]'))
        self.assertIn(name, self.text('#selected'))
        self.browser.press('ArrowUp')
        self.assertIn('Shop.load', self.text('#selected'))

    def test_help(self):
        self.open(support.Snapshot())
        self.browser.press('?')
        self.assertFalse(self.browser.run("$('help').hidden"))
        self.assertEqual(self.browser.run(
            "$('help-button').getAttribute('aria-expanded')"), 'true')


class PlaceTest(PageCase):
    def test_no_network(self):
        self.browser.send('Network.emulateNetworkConditions', offline=True,
                          latency=0, downloadThroughput=0, uploadThroughput=0)
        self.addCleanup(
            self.browser.send, 'Network.emulateNetworkConditions',
            offline=False, latency=0, downloadThroughput=-1,
            uploadThroughput=-1)
        self.open(support.Snapshot(), title='https://example.com/x.png')
        self.press_button('#table-room [role=row]')
        self.assertEqual(
            [url for url in self.browser.requests()
             if not url.startswith(('file:///', 'data:,', 'about:'))], [])
        self.assertEqual(self.browser.run('graph.boxes'), 7)

    def test_policy_lets_nothing_else_run(self):
        self.open(support.Snapshot())
        self.browser.run('''(() => {
            const script = document.createElement('script');
            script.textContent = 'window.hacked = 1';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend',
                '<b onclick="window.hacked=2" id=bold>x</b>');
            $('bold').click(); })()''')
        self.assertIsNone(self.browser.run('window.hacked'))
        self.assertTrue(self.browser.problems())
        self.browser.events.clear()

    def test_widths(self):
        for width in 320, 360, 640, 1024, 1280, 2200:
            self.size(width)
            for snapshots in ([support.Snapshot()],
                              [support.Snapshot(), support.older()]):
                self.open(*snapshots, title='long' * 60)
                self.search('shop')
                with self.subTest(width=width):
                    self.assertEqual(self.browser.run(
                        'document.documentElement.scrollWidth'), width)
                    outside = self.browser.run('''
                        Array.from(document.querySelectorAll(
                            'button, input, output, canvas, h1, dd'))
                        .filter(element => {
                            const box = element.getBoundingClientRect();
                            return box.width && (box.left < 0
                                || box.right > innerWidth + 1); })
                        .map(element => element.outerHTML)''')
                    self.assertEqual(outside, [])

    def test_controls_stay_in_place(self):
        self.size(1280, 900)
        for snapshots in ([support.Snapshot()],
                          [support.Snapshot(), support.older()]):
            self.open(*snapshots)
            top = "graph.canvas.getBoundingClientRect().top"
            before = self.browser.run(top)
            self.search('shop')
            self.browser.run('graph.zoom(graph.tree.order[1])')
            self.browser.settle()
            self.assertEqual(self.browser.run(top), before)

    def test_reduced_motion(self):
        self.open(support.Snapshot())
        moves = "getComputedStyle($('theme')).transitionDuration"
        self.browser.media(prefers_reduced_motion='no-preference')
        self.assertEqual(self.browser.run(moves), '0.1s')
        self.browser.media(prefers_reduced_motion='reduce')
        self.addCleanup(self.browser.media, prefers_color_scheme='light')
        self.assertEqual(self.browser.run(moves), '0s')

    def test_dark_where_the_system_is(self):
        self.browser.media(prefers_color_scheme='dark')
        self.addCleanup(self.browser.media, prefers_color_scheme='light')
        self.open(support.Snapshot())
        self.assertTrue(self.browser.run('graph.theme.dark'))

    def test_contrast(self):
        """Of text and what is behind it, as WCAG's AA asks: 4.5 to 1."""
        self.open(support.Snapshot())
        for theme in 'light', 'dark':
            self.browser.run(f'setTheme({json.dumps(theme)})')
            worst = self.browser.run(_CONTRAST)
            self.assertGreaterEqual(worst, 4.5, theme)

    def test_print(self):
        self.open(support.Snapshot())
        self.press_button('#theme')
        self.browser.run('''addEventListener('beforeprint', () => {
            window.printed = [document.documentElement.dataset.theme,
                              graph.theme.dark]; })''')
        data = base64.b64decode(self.browser.send('Page.printToPDF')['data'])
        self.assertEqual(data[:5], b'%PDF-')
        self.assertEqual(self.browser.run('window.printed'), ['light', False])
        self.assertTrue(self.browser.run('graph.theme.dark'))
        self.browser.send('Emulation.setEmulatedMedia', media='print')
        self.addCleanup(self.browser.send, 'Emulation.setEmulatedMedia',
                        media='')
        self.assertEqual(self.browser.run(
            "getComputedStyle($('search')).display"),
            'none')


class SizeTest(PageCase):
    def test_hundred_thousand_nodes(self):
        snapshot = support.big_snapshot(100_000)
        self.assertLess(len(render(snapshot)), 2_500_000)
        self.open(snapshot)
        # Milliseconds, the median of some, with a wide margin for a machine
        # that is busy: a frame or two are usual.
        times = self.browser.run('''(async () => {
            const time = async work => {
                const times = [];
                for (let i = 0; i < 5; i++) {
                    const start = performance.now();
                    work(i);
                    await new Promise(requestAnimationFrame);
                    times.push(performance.now() - start); }
                return times.sort((a, b) => a - b)[2]; };
            return [await time(i => graph.zoom(graph.tree.order[i])),
                    await time(i => { $('search').value = 'function_' + i;
                                      search(); }),
                    await time(i => table.sortBy(i))]; })()''')
        for what, limit, took in zip(('zoom', 'search', 'sort'),
                                     (100, 200, 200), times):
            self.assertLess(took, limit, what)

    def test_opens(self):
        """Milliseconds of the page's thread until all is drawn, the median of
        some: 100 are usual, and more where other threads want the caches."""
        self.open(support.big_snapshot(100_000))
        times = []
        for _ in range(5):
            self.browser.open(self.path)
            self.browser.settle()
            self.assertGreater(self.browser.run('graph.boxes'), 10)
            times.append(self.browser.worked())
        self.assertLess(sorted(times)[2], 400, times)


_CONTRAST = '''(() => {
    const canvas = document.createElement('canvas').getContext(
        '2d', { willReadFrequently: true });
    const luminance = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data,
            part => part / 255).map(part => part <= 0.04045 ? part / 12.92
                : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const contrast = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05); };
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(name).trim();
    const { dark } = graph.theme;
    const boxes = [color('--mark'), frameColor(model, -1, dark)];
    for (let frame = 0; frame < model.frameCount; frame++) {
        boxes.push(frameColor(model, frame, dark)); }
    for (let part = -1; part <= 1; part += 0.1) {
        boxes.push(changeColor(part, dark)); }
    return Math.min(
        ...['--back', '--raised'].flatMap(back => [
            contrast(color('--text'), color(back)),
            contrast(color('--weak'), color(back))]),
        contrast(color('--on-accent'), color('--accent')),
        ...boxes.map(box => contrast(box, color('--box-text')))); })()'''


if __name__ == '__main__':
    unittest.main()
