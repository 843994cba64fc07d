"""How reports name a place in the source, in one line.

Some blocks are allocated without a Python frame, as while the interpreter or a
thread starts.  The standard library's tracemalloc gives them the file
'<unknown>' and line 0.  The interface keeps that, so that filters and scripts
find it.  Reports say what it means, and which part of the interpreter
allocated; the tracer stores that part as the function (Python/tracer_walk.c).
"""

_FILE = '<unknown>'               # with line 0
# The files of what a view does not show, see views.py; with line 0.
IMPORTS = '<interpreter and imports>'
NOT_MINE = '<no line of my code>'
NO_TASK = '<no task>'
_REST = IMPORTS, NOT_MINE, NO_TASK
_NO_FRAME = 'interpreter, no Python frame'


def name_place(filename, lineno, function=None):
    if filename in _REST:
        return name_file(filename)
    if filename == _FILE and not lineno:
        return _NO_FRAME + _reason(function)
    text = f'{filename}:{lineno}'
    return f'{text} in {function}' if function else text


def name_file(filename):
    if filename in _REST:
        return filename.strip('<>')
    return _NO_FRAME if filename == _FILE else filename


def name_parts(filename, lineno, function):
    """Return what graphs show of a frame: its file, and its function."""
    if filename in (_FILE, *_REST) and not lineno:
        return name_place(filename, lineno, function), None
    return filename, function


def name_line(file, lineno):
    """Return file:lineno; *file* may be what name_parts() has returned."""
    return f'{file}:{lineno}' if lineno else file


def name_origin(stat):
    """Name the line that allocated for a group of my code, as the end of the
    group's name; '' if the line of the group itself allocated."""
    if stat.origin is None:
        return ''
    return ' > ' + name_place(stat.origin.filename, stat.origin.lineno,
                              stat.origin.function)


def name_group(stat, key):
    """Name the group of a Statistic of Snapshot.statistics(key)."""
    if key in ('lineno', 'traceback'):
        # Oldest first, as a traceback is read.
        return ' > '.join(name_place(frame.filename, frame.lineno,
                                     frame.function)
                          for frame in stat.traceback)
    if key == 'filename':
        return name_file(stat.traceback[-1].filename)
    if key in ('function', 'task'):
        filename, function, lineno = stat.key
        return name_place(filename, lineno, function)
    if key == 'type+lineno':
        kind, filename, lineno = stat.key
        return f'{kind}:{name_place(filename, lineno)}'
    if key == 'module':
        return name_file(stat.key)
    return f'0x{stat.key:x}' if key == 'address' else str(stat.key)


def _reason(function):
    """'<start-up>' and the like stand where a function does."""
    if function in (None, _FILE):
        return ''
    return f' ({function.strip("<>")})'
