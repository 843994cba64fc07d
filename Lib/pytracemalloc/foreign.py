"""Resident memory of a process that cannot be asked: what smaps alone tells.

The names of mappings tell code, data and files apart.  Anonymous memory behind
the data of a library belongs to the library.  A mapping that follows
unreadable pages and has the default size of a thread's stack is such a stack.
The owner of the rest is unknown.
"""

import re

from pytracemalloc.agreed import MEMORY_NAME
from pytracemalloc.errors import CommandError
from pytracemalloc.processes import describe_denial
from tracemalloc.resident import ResidentMemory

_MAPPING = re.compile(rb'([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)')
_LIBRARY = re.compile(r'\.so(\.[\w.]+)?( \(deleted\))?\Z')
_STACK = 8 << 20                  # bytes, with the guard in front


def read_rss(pid, note):
    """Return the ResidentMemory of a process; *note* says why no more."""
    try:
        with open(f'/proc/{pid}/smaps', 'rb') as file:
            mappings = [*_parse(file)]
    except (FileNotFoundError, ProcessLookupError):
        raise CommandError(f'there is no process {pid}, or no '
                           f'/proc/{pid}/smaps') from None
    except PermissionError:
        raise CommandError(describe_denial(pid)) from None
    programs = {name for _, _, flags, _, name, _ in mappings
                if 'x' in flags and name.startswith('/')}
    rows = {}
    before = None
    owner = None
    for mapping in mappings:
        owner = _owner(mapping, before, owner, programs)
        before = mapping
        size = mapping[-1]
        if size:
            count, sum_ = rows.get(owner, (0, 0))
            rows[owner] = count + 1, sum_ + size
    rows = [(*owner, '', *figures) for owner, figures in rows.items()]
    return ResidentMemory(rows, sum(row[-1] for row in rows), [note])


def _parse(file):
    """Yield [begin, end, flags, is a file, name, resident bytes]."""
    mapping = None
    for line in file:
        if match := _MAPPING.match(line):
            if mapping is not None:
                yield mapping
            begin, end, flags, inode, name = match.groups()
            mapping = [int(begin, 16), int(end, 16), flags.decode(),
                       inode != b'0', name.decode(errors='surrogateescape'),
                       0]
        elif line.startswith(b'Rss:') and mapping is not None:
            mapping[-1] = int(line.split()[1]) * 1024
    if mapping is not None:
        yield mapping


def _owner(mapping, before, owner_before, programs):
    """Return (owner, name)."""
    begin, end, flags, is_file, name, _ = mapping
    if 's' in flags:
        return (('tracer', 'tables')
                if name.startswith(f'/memfd:{MEMORY_NAME} ')
                else ('shared', name))
    if is_file:
        if name not in programs and not _LIBRARY.search(name):
            return 'file', name
        return 'data' if 'w' in flags else 'code', name
    if name.startswith('[stack'):
        return 'stack', 'main thread'
    if name == '[heap]':
        return 'malloc', 'heap'
    if name.startswith('[') and not name.startswith('[anon'):
        return 'kernel', name
    if before is not None and before[1] == begin:
        if owner_before[0] == 'data':
            return owner_before
        if before[2].startswith('---') and end - before[0] in (
                _STACK, _STACK + begin - before[0]):
            return 'stack', 'other threads'
    return 'unexplained', name
