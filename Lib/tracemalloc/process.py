"""The process: its memory, as the operating system counts it, and its garbage.
"""

import gc
import os
import sys

# Is it a build without the GIL?  An import or an option may switch one on there.
FREE_THREADED = 't' in sys.abiflags


def collect_garbage():
    """Free what only the cyclic collector can.

    Without the GIL, it leaves an object to the thread that has made it, which
    may not run; the next collection takes it from there.
    """
    gc.collect()
    if FREE_THREADED:
        gc.collect()


def get_memory_info():
    """Get (resident, virtual) in bytes, or None where it is not known."""
    try:
        import psutil
    except ImportError:
        return read_statm()
    try:
        info = psutil.Process().memory_info()
    except psutil.Error:
        return None
    return info.rss, info.vms


def read_statm():
    """get_memory_info() of what Linux says."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            fields = statm.read().split()
        page_size = os.sysconf("SC_PAGE_SIZE")
        return int(fields[1]) * page_size, int(fields[0]) * page_size
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def get_process_memory():
    """Get the resident memory of this process in bytes.

    Return None if the platform does not tell.
    """
    info = get_memory_info()
    return None if info is None else info[0]
