"""What native memory does not show: allocators inside libraries, and libraries
that do not call the malloc() of the program.

An allocator that is linked into a library is found by its symbols, or in a
library without symbols by the texts of its messages.  Two of them say
themselves how much of their memory is live.
"""

from collections import namedtuple
import os
import struct
import sys

import _tracemalloc
from _tracemalloc import _hidden

UnseenAllocator = namedtuple('UnseenAllocator', 'library name live')
UnseenAllocator.__module__ = 'tracemalloc'

OTHER = 'another malloc()'
KEY = 'unseen_allocators'         # in the metadata of a snapshot

# By what a symbol ends with, and by what a message begins with.
_MALLCTL = b'mallctl\0'
_SYMBOLS = {_MALLCTL: 'jemalloc', b'_mi_malloc_generic\0': 'mimalloc',
            b'tc_malloc\0': 'tcmalloc', b'rpmalloc_initialize\0': 'rpmalloc'}
_TEXTS = {b'<jemalloc>: ': 'jemalloc', b'\0mimalloc: ': 'mimalloc',
          b'tcmalloc: large alloc': 'tcmalloc'}
_CHUNK = 1 << 20
_PAGE = 4096
_LONGEST = 256                    # name that is found across two chunks
_HEADER = struct.Struct('<16s HHIQQQIHHHHHH')
_SECTION = struct.Struct('<IIQQQQIIQQ')
_SYMBOL = struct.Struct('<IBBHQQ')
_SYMTAB, _DYNSYM, _PROGBITS = 2, 11, 1
_LOADED = 2                       # flag of a section

# (address, file): {name: address of mallctl() or None}
_known = {}


class _File:
    """A library's file of 64 bits, or ValueError."""

    def __init__(self, fd):
        self.fd = fd
        header = self.read(0, _HEADER.size)
        if header[:6] != b'\x7fELF\2\1' or len(header) < _HEADER.size:
            raise ValueError('no library')
        fields = _HEADER.unpack(header)
        offset, size, number = fields[6], fields[11], fields[12]
        table = self.read(offset, size * number)
        if size != _SECTION.size or len(table) != size * number:
            raise ValueError('no sections')
        self.sections = [*_SECTION.iter_unpack(table)]

    def read(self, offset, size):
        return os.pread(self.fd, size, offset)

    def find(self, section, word):
        """Yield the offsets of *word* in a section."""
        _, _, _, _, start, size, *_ = section
        for at in range(0, size, _CHUNK):
            chunk = self.read(start + at, min(_CHUNK + _LONGEST, size - at))
            found = chunk.find(word)
            while 0 <= found < _CHUNK:
                yield at + found
                found = chunk.find(word, found + 1)

    def defined_at(self, table, name):
        """Address of a symbol that is defined here, by the offset of its
        name, or None."""
        for found in self.find(table, name.to_bytes(4, 'little')):
            if found % _SYMBOL.size == 0:
                _, _, _, section, value, _ = _SYMBOL.unpack(
                    self.read(table[4] + found, _SYMBOL.size))
                if section:
                    return value
        return None

    def address_of(self, table, end):
        """Address of a function whose name ends with *end*, or None."""
        names = self.sections[table[6]]
        for at in self.find(names, end):
            first = max(0, at - _LONGEST)
            before = self.read(names[4] + first, at - first)
            value = self.defined_at(table, first + before.rfind(b'\0') + 1)
            if value is not None:
                return value
        return None

    def has_malloc(self, table):
        return any(self.defined_at(table, at) is not None for at
                   in self.find(self.sections[table[6]], b'malloc\0'))

    def maps_memory(self, table):
        """No allocator can do without, but nearly all libraries can."""
        names = self.sections[table[6]]
        return any(next(self.find(names, name), None) is not None
                   for name in (b'\0mmap\0', b'\0mmap64\0', b'\0sbrk\0',
                                b'\0syscall\0'))

    def allocators(self):
        """Return {name: address of mallctl() or None}."""
        tables = {section[1]: section for section in self.sections
                  if section[1] in (_SYMTAB, _DYNSYM)}
        dynamic = tables.get(_DYNSYM)
        if dynamic is None or not self.maps_memory(dynamic):
            return {}
        if self.has_malloc(dynamic):
            return {}             # it is called by way of the program
        found = {}
        for table in tables.values():
            for end, name in _SYMBOLS.items():
                address = self.address_of(table, end)
                if address is not None:
                    found.setdefault(name, address if end == _MALLCTL
                                     else None)
        if _SYMTAB not in tables:
            found |= dict.fromkeys(set(self.messages()) - {*found})
        return found

    def messages(self):
        for section in self.sections:
            if section[1] == _PROGBITS and section[2] & _LOADED:
                for text, name in _TEXTS.items():
                    if next(self.find(section, text), None) is not None:
                        yield name

    def is_at(self, base):
        """Is this what is in the memory of the process?"""
        with open('/proc/self/mem', 'rb', buffering=0) as memory:
            there = os.pread(memory.fileno(), _PAGE, base)
        return there == self.read(0, _PAGE)


def _look_into(path, base):
    """Return {name: mallctl() in this process or None} of a library."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    # Another one may have been loaded at the address of one that is gone.
    status = os.fstat(fd)
    key = (base, status.st_dev, status.st_ino, status.st_size,
           status.st_mtime_ns)
    try:
        if key not in _known:
            file = _File(fd)
            found = file.allocators() if file.is_at(base) else {}
            _known[key] = {name: None if address is None else base + address
                           for name, address in found.items()}
    except (OSError, ValueError, IndexError, struct.error):
        _known[key] = {}
    finally:
        os.close(fd)
    return _known[key]


def _live(path, name, mallctl):
    """Bytes of live blocks, or None."""
    if mallctl is not None:
        return _tracemalloc._jemalloc_live(mallctl)
    arrow = sys.modules.get('pyarrow.lib')
    if arrow is not None and os.path.basename(path).startswith('libarrow.so'):
        pool = arrow.default_memory_pool()
        if pool.backend_name == name:
            return pool.bytes_allocated()
    return None


def _find():
    for path, base, apart in sorted(_tracemalloc._libraries()):
        if apart:
            yield path, OTHER, None
        for name, mallctl in _look_into(path, base).items():
            yield path, name, _live(path, name, mallctl)


@_hidden
def get_unseen_allocators():
    """Get what native memory does not show: a list of UnseenAllocator
    (library, name, live).

    library: path of the file; name: jemalloc, mimalloc, tcmalloc or rpmalloc
    if the library contains it, or 'another malloc()' if the library does not
    call the malloc() of the program; live: bytes of live blocks, if the
    allocator says it, or None.  It is empty where native memory cannot be
    traced.
    """
    return [UnseenAllocator(*found) for found in _find()]


def record(snapshot):
    """Note it in a snapshot of native memory."""
    if 'native_peak' not in snapshot.metadata:
        return
    try:
        found = [[*row] for row in _find()]
    except Exception:             # whatever a package may raise
        return
    if found:
        snapshot.metadata[KEY] = found


def check(found):
    """What record() has noted, of a file that nobody vouches for."""
    try:
        rows = [UnseenAllocator(*row) for row in found]
    except TypeError:
        return []
    return [row for row in rows
            if isinstance(row.library, str) and isinstance(row.name, str)
            and (row.live is None
                 or type(row.live) is int and row.live >= 0)]
