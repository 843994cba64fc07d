"""Address space that is set aside, for a summary where there is none left.

Under a limit (ulimit -v) a program ends when it gets no more memory.  What is
set aside is no memory: nothing is ever written there.
"""

import contextlib
import mmap
import resource

from tracemalloc.process import FREE_THREADED

# mimalloc takes 32 MiB at a time, aligned, of what is released.
_SIZE = (128 if FREE_THREADED else 64) << 20
_SHARE = 8                        # of a limit: no more than 1/8


class Reserve:
    def __init__(self):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        size = _SIZE if limit < 0 else min(_SIZE, limit // _SHARE)
        self._range = None
        with contextlib.suppress(OSError, ValueError):
            self._range = mmap.mmap(
                -1, size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE
                | mmap.MAP_ANONYMOUS | getattr(mmap, 'MAP_NORESERVE', 0))

    def release(self):
        if self._range is not None:
            self._range.close()
