"""C frames of native memory: places in files of code, and their names.

The names are looked up in the files when they are asked for, so that a traced
program does not pay for them.
"""

from functools import lru_cache
import os
from os.path import basename
import stat

# Functions of C++ and Rust that only call malloc() for others.
_ALLOCATORS = ('operator new', 'std::__new_allocator<',
               '__gnu_cxx::new_allocator<', 'std::allocator_traits<',
               '__rust_alloc', '__rust_realloc', '__rdl_', '__rustc::',
               'alloc::alloc::', '<alloc::alloc::', 'alloc::raw_vec::',
               '<alloc::raw_vec::', 'std::alloc::', '<std::alloc::',
               'std::sys::alloc::', '<std::sys::alloc::')
NOT_NATIVE = '<not native>'
NO_FRAMES = '<no C frames>'

_MOST_NAMES = 10_000              # that are kept: finding one takes long
_MOST_FILES = 5000

_symbols = {}                     # (path, build ID): Symbols, or why not
_asks = False                     # servers for debug files


def ask_servers():
    """Ask the servers of DEBUGINFOD_URLS for debug files from now on."""
    global _asks
    _asks = True


def _open(path, build_id):
    key = path, build_id
    if key not in _symbols:
        if len(_symbols) >= _MOST_FILES:
            _symbols.clear()
        try:
            from _tracemalloc_symbols import Symbols
            # The name may come from a snapshot that nobody vouches for.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ValueError(f'{path}: it is no file')
            _symbols[key] = Symbols(path, build_id, _asks)
        except ImportError:
            _symbols[key] = ('no names of C functions: this build has no '
                             'elfutils')
        except (OSError, ValueError) as exc:
            _symbols[key] = str(exc)
    return _symbols[key]


@lru_cache(_MOST_NAMES)
def _find(path, build_id, offset):
    """Return (function, file name, line) of a place; None: not known."""
    symbols = _open(path, build_id)
    return ((None, None, 0) if isinstance(symbols, str)
            else symbols.find(offset))


def find_faults():
    """Return why there are no names in files that were looked at."""
    return sorted({fault for fault in _symbols.values()
                   if isinstance(fault, str)})


class NativeFrame:
    """Frame of C code: where in the file of a library a call returns to.

    module: path of the file; build_id: hexadecimal digits, '' if it has none;
    offset: address in the file; address: in the process.
    """
    __module__ = 'tracemalloc'
    __slots__ = ('module', 'build_id', 'offset', 'address')

    def __init__(self, frame):
        self.module, self.build_id, self.offset, base = frame
        self.address = base + self.offset

    def _find(self):
        return _find(self.module, self.build_id, self.offset)

    @property
    def function(self):
        """Name of the function, or None if it is not known."""
        return self._find()[0]

    @property
    def filename(self):
        """The source file, or None if it is not known."""
        return self._find()[1]

    @property
    def lineno(self):
        """The line in it, 0 if it is not known."""
        return self._find()[2]

    def _key(self):
        return self.module, self.build_id, self.offset, self.address

    def __eq__(self, other):
        if not isinstance(other, NativeFrame):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self):
        return hash(self._key())

    def __str__(self):
        name = self.function
        return (f'{name} ({basename(self.module)})' if name is not None else
                f'{basename(self.module)}+0x{self.offset:x}')

    def __repr__(self):
        return f'<NativeFrame module={self.module!r} offset=0x{self.offset:x}>'


def frames_of(stack):
    """Return the frames of a C stack, the most recent last.  *stack*: as a
    snapshot has it, the innermost first."""
    return tuple(map(NativeFrame, reversed(stack)))


def name_stack(frames):
    """Name the C function that asked for memory: the innermost one that does
    not do so for others.  *frames*: the innermost first; None: the memory is
    not native."""
    if frames is None:
        return NOT_NATIVE
    for frame in map(NativeFrame, frames):
        if not (frame.function or '').startswith(_ALLOCATORS):
            return str(frame)
    return str(NativeFrame(frames[0])) if frames else NO_FRAMES


def group_by_function(rows):
    """Join the rows of C stacks that have the same function, see
    Traces._group()."""
    groups = {}
    for frames, _, size, count, *rest in rows:
        name = name_stack(frames)
        if name in groups:
            size += groups[name][2]
            count += groups[name][3]
        groups[name] = (name, ((name, 0),), size, count, *rest)
    return [*groups.values()]
