"""Names of files without the directories that they share."""

import os
import re

from tracemalloc.views import INTERPRETER, LIBRARY, PACKAGE, PROGRAM

# On any machine.
_PACKAGES = re.compile(r'(?:site|dist)-packages/')
_LIBRARY = re.compile(r'/python\d+\.\d+/')


def short_names(filenames, files):
    """Return the names without the directory that files of a kind share:

    the program's common directory, site-packages, the standard library's.
    *files*: tracemalloc.views.Files, which knows the kinds.
    """
    categories = list(map(files.category, filenames))
    places = [os.path.dirname(name) for name, category
              in zip(filenames, categories)
              if category == PROGRAM and os.path.isabs(name)]
    roots = [os.path.join(path, '') for path in files.library]
    if places:
        roots.append(os.path.join(os.path.commonpath(places), ''))
    return [_shorten(name, category, roots)
            for name, category in zip(filenames, categories)]


def _shorten(name, category, roots):
    if category == INTERPRETER:
        return name
    if category == PACKAGE:
        return _PACKAGES.split(name)[-1]
    root = max((root for root in roots if name.startswith(root)), key=len,
               default='')
    if not root and category == LIBRARY:
        return _LIBRARY.split(name)[-1]
    return name[len(root):] or name
