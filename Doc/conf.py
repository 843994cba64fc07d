"""Configuration of Sphinx; `make docs` builds the pages and man pages.

Warnings are errors and every reference must resolve. A reference to something
of the standard library becomes a link into its documentation if the running
interpreter has it, without asking the network; one that names nothing stays
unresolved, and fails the build.

Every block of code is a test. How blocks are written (files by :caption:,
output as text, `.. not run: REASON`) is said at the top of
Lib/test/test_pytracemalloc/test_docs.py.
"""
import os
import pathlib
import pydoc
import re
import sys

from docutils import nodes
from docutils.parsers.rst import Directive

project = 'pytracemalloc'
author = 'the authors of pytracemalloc'
copyright = author
version = release = os.environ.get('PYTRACEMALLOC_VERSION', '')

needs_sphinx = '9.0'
extensions = ['sphinx.ext.doctest']
exclude_patterns = ['requirements.txt']
nitpicky = True
# C's own, which have no page to lead to.
nitpick_ignore = [('c:identifier', name) for name in ('size_t', 'uintptr_t')]

# What follows `::` is Python.
highlight_language = 'python'
add_module_names = False
toc_object_entries = False
smartquotes_excludes = {'builders': ['man'], 'languages': ['ja']}

html_theme = 'furo'
html_title = f'pytracemalloc {release}'
html_static_path = ['_static']
html_css_files = ['docs.css']
html_copy_source = False
html_show_sphinx = False

# The man pages: source, name, description, authors, section.
_description = re.compile(r'^.+ -{3} (.+)\n=+$', re.MULTILINE)
man_pages = []
for _page in sorted((pathlib.Path(__file__).parent / 'man').glob('*.rst')):
    _name, _, _section = _page.stem.rpartition('.')
    _title = _description.search(_page.read_text(encoding='utf-8'))
    man_pages.append((f'man/{_page.stem}', _name, _title[1], '', _section))
man_show_urls = True

TOP = pathlib.Path(__file__).resolve().parents[1]
PYTHON_DOCS = 'https://docs.python.org/{}.{}'.format(*sys.version_info)
OWN = {'tracemalloc', 'tracemalloctext', 'pytracemalloc'}
STANDARD_LIBRARY = sys.stdlib_module_names - OWN
# Pages of Python's documentation that are not called after their module.
BUILTIN_PAGES = {'exc': 'exceptions', 'class': 'stdtypes'}


def link_to_standard_library(app, env, node, contnode):
    """Resolve a reference of the Python domain by looking into Python."""
    if node.get('refdomain') != 'py':
        return None
    target, role = node['reftarget'], node['reftype']
    if not target or pydoc.locate(target) is None:
        return None
    module = target
    while module and pydoc.locate(module) is not sys.modules.get(module):
        module = module.rpartition('.')[0]
    if module and module.partition('.')[0] not in STANDARD_LIBRARY:
        return None
    page = module or BUILTIN_PAGES.get(role, 'functions')
    anchor = f'module-{module}' if module == target else target
    uri = f'{PYTHON_DOCS}/library/{page}.html#{anchor}'
    link = nodes.reference('', '', contnode, internal=False, refuri=uri,
                           reftitle='in the documentation of Python')
    return link


class Map(Directive):
    """``.. map::`` is the drawing of Tools/map.py, of the source as it is."""

    def run(self):
        self.state.document.settings.env.note_reread()
        sys.path.append(str(TOP / 'Tools'))
        try:
            from map import Drawing
        finally:
            sys.path.pop()
        drawing = nodes.raw('', Drawing(TOP).draw(), format='html')
        return [nodes.container('', drawing, classes=['drawing'])]


class Picture(Directive):
    """``.. picture:: NAME`` is a picture of Tools/pictures.py, light or dark;
    its content describes it.  Nothing where there was no browser."""
    required_arguments = 1
    has_content = True

    def run(self):
        self.state.document.settings.env.note_reread()
        alt = ' '.join(self.content)
        folder = os.environ.get('PYTRACEMALLOC_PICTURES', '')
        found = []
        for theme in 'light', 'dark':
            path = os.path.join(folder, f'{self.arguments[0]}-{theme}.webp')
            if os.path.exists(path):
                place = os.path.relpath(path, TOP / 'Doc')
                found.append(nodes.image(uri=f'/{place}', alt=alt,
                                         classes=[f'only-{theme}', 'page']))
        return found


def setup(app):
    app.add_directive('map', Map)
    app.add_directive('picture', Picture)
    app.connect('missing-reference', link_to_standard_library)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
