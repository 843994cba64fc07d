"""The memory of the process, as the operating system counts it, and the cyclic
garbage in it.
"""

import gc
import os
import sys

# Is this a build without the GIL?  An import or an option may enable it there.
FREE_THREADED = 't' in sys.abiflags


def collect_garbage():
    """Free what only the cyclic collector can.

    Without the GIL, the collector leaves an object to the thread that made it.
    That thread may not be running; the next collection then frees the object.
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
