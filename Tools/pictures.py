"""Pictures of HTML reports, light and dark: of what the demo makes, and of
what a run of the page of the documentation that shows them leaves behind.

usage: python Tools/pictures.py DIRECTORY [NAME...]

Runs under the interpreter that was built, like the tests of the pages, and
needs Chromium. A picture whose page and report are what they were is not made
again.
"""
import base64
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[1]
os.environ['PYTRACEMALLOC_TOP'] = str(TOP)

from test.test_pytracemalloc.browser import EXECUTABLE, Browser  # noqa: E402
from test.test_pytracemalloc.docs_page import Page  # noqa: E402

# A page, the report that its blocks write, what to do in it, and the height.
DEMO = '../Lib/pytracemalloc/demo/shop.py'
PICTURES = {
    'demo': (DEMO, 'shop.html', 'table.select(0); search()', 740),
    'grown': ('tutorial/leak.rst', 'grown.html',
              'table.select(0)', 640),
    'held': ('tutorial/holders.rst', 'held.html',
             'graph.select(graph.tree.order[1])', 640),
    'over_time': ('howto/over_time.rst', 'shop.html',
                  'stack.moveTo(stack.count - 1, 0)', 800),
}
WIDTH = 1120


def key_of(page):
    """Return a digest of all that a picture depends on."""
    digest = hashlib.sha256((TOP / 'Doc' / page).read_bytes())
    for path in [*(TOP / 'Lib/pytracemalloc/html').iterdir(),
                 TOP / 'Lib/pytracemalloc/reporters/html.py',
                 pathlib.Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_page(page, scratch):
    """Run the blocks of a page; return the directory with their files.  What
    does not do as the page says is for `make docs-check` to complain of."""
    scratch = pathlib.Path(scratch)
    os.chdir(scratch)
    if page == DEMO:
        subprocess.run([sys.executable, '-m', 'pytracemalloc', 'demo', '-o',
                        scratch / 'demo'], check=True)
        return scratch / 'demo'
    running = Page(TOP / 'Doc' / page, scratch)
    running.run()
    return running.folder


def take(browser, report, script, height, place):
    browser.send('Emulation.setDeviceMetricsOverride', width=WIDTH,
                 height=height, deviceScaleFactor=2, mobile=False)
    for theme in 'light', 'dark':
        browser.media(prefers_color_scheme=theme,
                      prefers_reduced_motion='reduce')
        browser.open(report)
        browser.settle()
        browser.run(f'{script}; 0')
        browser.settle()
        if problems := browser.problems():
            raise SystemExit(f'{report}: {problems}')
        data = browser.send('Page.captureScreenshot', format='webp',
                            quality=85)['data']
        path = place.with_name(f'{place.name}-{theme}.webp')
        path.write_bytes(base64.b64decode(data))
        print(path)


def make(directory, name):
    page, report, script, height = PICTURES[name]
    key = key_of(page)
    mark = directory / f'{name}.key'
    if mark.exists() and mark.read_text() == key:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = run_page(page, scratch)
        if not (folder / report).exists():
            raise SystemExit(f'{page} does not make {report}, see '
                             '`make docs-check`')
        with Browser() as browser:
            take(browser, folder / report, script, height, directory / name)
        os.chdir(directory)
    mark.write_text(key)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.split('\n\n')[1])
    if not EXECUTABLE:
        sys.exit('no pictures: they need chromium')
    directory = pathlib.Path(sys.argv[1]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or PICTURES:
        make(directory, name)


if __name__ == '__main__':
    main()
