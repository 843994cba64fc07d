"""What a view of a snapshot hides: the import system and the interpreter or,
in the view *my code*, everything that is not the program's.

Blocks that hidden code allocates are charged to the line that called it (in C,
see Traces._fold()).  Blocks that no shown line led to are charged to one
place, so the sums stay the same.  Which files are hidden depends on where
Python was installed for the traced process.  The snapshot describes that, for
it may be read where Python is installed elsewhere.
"""

import fnmatch
import os.path
import re
import sys

from tracemalloc import native
from tracemalloc.places import IMPORTS, NO_TASK, NOT_MINE

PROGRAM, PACKAGE, LIBRARY, INTERPRETER = range(4)

# What happens to the frames of a file, as in C: shown, hidden, or hidden
# unless it is the outermost frame.
SHOWN, HIDDEN, HIDDEN_IF_CALLED = range(3)

_PACKAGES = re.compile(r'.*(?:^|[/\\])(?:site|dist)-packages[/\\]', re.DOTALL)
# Of a snapshot that does not describe its process.
_ANY_LIBRARY = re.compile(
    r'(?:^|.*[/\\])[Ll]ib(?:64)?[/\\]python\d+\.\d+[/\\]', re.DOTALL)
# Each file is compared with each of these, and a snapshot may be hostile.
_MOST_FOLDERS = 64
# Frozen or, with -X frozen_modules=off, files of the standard library.
_IMPORT_SYSTEM = re.compile(r'<frozen (?:importlib\.|zipimport|runpy)')
_IMPORT_FILES = ('importlib/__init__.py', 'importlib/_bootstrap.py',
                 'importlib/_bootstrap_external.py', 'runpy.py',
                 'zipimport.py')
# The files of event loops, and their functions that run tasks and callbacks:
# for asyncio, asyncio with a loop in C, and trio.
_LOOPS = re.compile(r'.*[/\\](?:asyncio|uvloop|anyio|trio)[/\\]', re.DOTALL)
RUNNERS = 'Handle._run', 'Runner.run', 'unrolled_run'
# Code that a person has typed.  Other names such as '<string>' stand for
# generated code, which is charged to its caller.
_TYPED = re.compile(r'<(?:stdin|console|ipython-input|python-input|doctest)')


def describe_process():
    """Return what is needed to tell the program's files from others, as plain
    data."""
    try:
        directory = os.getcwd()
    except OSError:               # it was removed
        directory = None
    # At the interpreter's end, sys has nothing.
    paths = getattr(sys, 'path', None) or ()
    arguments = getattr(sys, 'argv', None) or ()
    paths = [path for path in paths if isinstance(path, str)]
    packages = [path for path in paths
                if _PACKAGES.match(os.path.join(path, ''))]
    return {'library': _library(), 'packages': packages[:_MOST_FOLDERS],
            'path': paths[:_MOST_FOLDERS], 'directory': directory,
            'command': list(arguments[:1]) == ['-c']}


def _library():
    paths = getattr(sys, '_stdlib_dir', None), os.path.dirname(os.__file__)
    return sorted({path for path in paths if path})


def check_process(value):
    """Return a description from a file; TypeError if it is not one."""
    if value is None:
        return None
    # Lists, for a generator may crash when there is no memory.
    if (isinstance(value, dict)
            and all([_is_list_of_texts(value.get(name))
                     for name in ('library', 'packages')])
            # Files of older versions do not have it.
            and _is_list_of_texts(value.get('path', []))
            and isinstance(value.get('directory'), (str, type(None)))
            and isinstance(value.get('command'), bool)):
        return value
    raise TypeError("program is no description of a process")


def _is_list_of_texts(value):
    return (isinstance(value, list) and len(value) <= _MOST_FOLDERS
            and all([isinstance(path, str) for path in value]))


def fold(traces, kind, rest, origins=False, runners=()):
    """Make Traces without the frames of files for which *kind* is HIDDEN.

    *rest*: the file to charge where no frame is left.  *origins*: remember
    which line allocated.  *runners*: functions of these files that run tasks;
    if given, only the frame of the task is left of each traceback.
    """
    kinds = bytes([SHOWN if name is None else kind(name)
                   for name in traces._filenames()])
    return traces._fold(kinds, rest, origins, runners)


def is_event_loop(filename):
    return _LOOPS.match(filename) is not None


def by_task(traces):
    """Make Traces whose tracebacks have one frame: the coroutine or callback
    that an event loop ran, or the file NO_TASK if there was none."""
    return fold(traces,
                lambda name: HIDDEN if is_event_loop(name) else SHOWN,
                NO_TASK, runners=RUNNERS)


def view_of(snapshot, unfold=False, my_code=False, mine=()):
    """Return what reports show of a snapshot, by their options."""
    if my_code:
        return snapshot.my_code(mine)
    return snapshot if unfold else snapshot.fold_imports()


class Files:
    """Judges files by their names.

    *program*: of describe_process(), or None.  *patterns*: of fnmatch, for
    files that are the program's, or with '!' before them are not; of those
    that match, the last decides.
    """

    def __init__(self, program, patterns=()):
        self._described = program is not None
        self._command = self._described and program['command']
        self._patterns = [(pattern.removeprefix('!'), pattern[:1] != '!')
                          for pattern in patterns]
        self.library = program['library'] if self._described else _library()
        roots = [(path, LIBRARY) for path in self.library]
        if self._described:
            roots += [(path, PACKAGE) for path in program['packages']]
            if program['directory']:
                roots.append((program['directory'], PROGRAM))
        # The longest path decides; among equals, the program's.
        self._roots = sorted(((os.path.join(path, ''), category)
                              for path, category in roots),
                             key=lambda root: (-len(root[0]), root[1]))
        self._import_files = {os.path.join(path, name)
                              for path in self.library
                              for name in _IMPORT_FILES}

    def category(self, filename):
        """Return PROGRAM, PACKAGE, LIBRARY or INTERPRETER."""
        if filename.startswith('<'):
            made = not filename.startswith(('<frozen ', '<unknown>', IMPORTS,
                                            NOT_MINE))
            return PROGRAM if made else INTERPRETER
        root, category = next(
            (root for root in self._roots if filename.startswith(root[0])),
            ('', PROGRAM))
        found = _PACKAGES.match(filename)
        if found and found.end() > len(root):
            return PACKAGE
        if not self._described and _ANY_LIBRARY.match(filename):
            return LIBRARY
        return category

    def is_import_system(self, filename):
        return (_IMPORT_SYSTEM.match(filename) is not None
                or filename in self._import_files)

    def import_kind(self, filename):
        """Return HIDDEN for the import system, and where there is no frame."""
        hidden = filename == '<unknown>' or self.is_import_system(filename)
        return HIDDEN if hidden else SHOWN

    def code_kind(self, filename):
        """Return HIDDEN for what is not the program's."""
        for pattern, mine in reversed(self._patterns):
            if fnmatch.fnmatch(filename, pattern):
                return SHOWN if mine else HIDDEN
        if self.category(filename) != PROGRAM:
            return HIDDEN
        if not filename.startswith('<') or _TYPED.match(filename):
            return SHOWN
        return (SHOWN if self._command and filename == '<string>'
                else HIDDEN_IF_CALLED)
