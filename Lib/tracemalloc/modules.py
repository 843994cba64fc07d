"""Which top-level package a file belongs to."""

import os.path
import re
import sys

# Where the modules of a Python installation lie, on any machine.
_LIBRARY = re.compile(r'(?:^|(?<=[/\\]))(?:(?:site|dist)-packages'
                      r'|[Ll]ib(?:64)?[/\\]python\d+\.\d+'
                      r'(?:[/\\]lib-dynload)?)'
                      r'[/\\]')
_FROZEN = re.compile(r'<frozen ([^.>]+)')


def module_of(filename, program=None):
    """Name of the top-level package or module of a file.

    The package is looked for below site-packages, the standard library and
    sys.path: that of the process which *program* describes, of
    views.describe_process(), or of this one.  A file elsewhere is a module of
    its own, and so is a text that is not a file name, such as '<string>'.
    """
    frozen = _FROZEN.match(filename)
    if frozen:
        return frozen[1]
    if filename.startswith('<'):
        return filename
    inside = None
    for found in _LIBRARY.finditer(filename):
        inside = filename[found.end():]
    if inside is None:
        paths = (program or {}).get('path', sys.path)
        inside = _below(paths, filename) or os.path.basename(filename)
    first = re.split(r'[/\\]', inside)[0]
    return first.partition('.')[0] or first


def _below(paths, filename):
    roots = [path for path in paths
             if path and filename.startswith(path.rstrip(os.sep) + os.sep)]
    if roots:
        longest = max(roots, key=len).rstrip(os.sep)
        return filename[len(longest) + 1:]
    return None
