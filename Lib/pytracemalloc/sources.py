"""What a file name says about the code in it: where it comes from."""

import functools
import os
import re
import sysconfig

_PROGRAM, _INSTALLED, _STDLIB, _INTERPRETER = range(4)


@functools.cache
def _library():
    return tuple({path + os.sep for path in
                  (sysconfig.get_path('stdlib'),
                   sysconfig.get_path('platstdlib'),
                   os.path.dirname(os.__file__)) if path})


def category_of(filename):
    """Return 0 program, 1 installed package, 2 library, 3 interpreter."""
    if filename.startswith('<'):
        return (_INTERPRETER if filename.startswith(('<frozen', '<unknown'))
                else _PROGRAM)
    if 'site-packages' in filename or 'dist-packages' in filename:
        return _INSTALLED
    return _STDLIB if filename.startswith(_library()) else _PROGRAM


def short_names(filenames):
    """Return the names without the directory that files of a kind share:

    the program's common directory, site-packages, the standard library's.
    """
    categories = list(map(category_of, filenames))
    places = [os.path.dirname(name) for name, category
              in zip(filenames, categories)
              if category == _PROGRAM and os.path.isabs(name)]
    roots = _library()
    if places:
        roots += os.path.join(os.path.commonpath(places), ''),
    return [_without(name, roots) if category != _INSTALLED
            else re.split(r'(?:site|dist)-packages/', name)[-1]
            for name, category in zip(filenames, categories)]


def _without(name, roots):
    root = max((root for root in roots if name.startswith(root)), key=len,
               default='')
    return name[len(root):] or name
