"""Metrics of the interpreter and the process, added to a snapshot.

Sizes are in bytes.  A metric that the platform cannot tell is left out.
"""

import _tracemalloc
from _tracemalloc import get_arena_stats
from tracemalloc.process import get_memory_info


def add_metrics(snapshot):
    """Add all metrics to a snapshot."""
    add_gc_metrics(snapshot)
    add_process_memory_metrics(snapshot)
    add_pymalloc_metrics(snapshot)
    add_tracemalloc_metrics(snapshot)
    add_unicode_metrics(snapshot)


def add_gc_metrics(snapshot):
    """Add gc.objects: what the cyclic garbage collector tracks."""
    snapshot.add_metric("gc.objects", _tracemalloc._get_gc_object_count(),
                        "int")


def add_process_memory_metrics(snapshot):
    """Add process_memory.rss and process_memory.vms."""
    info = get_memory_info()
    if info is not None:
        snapshot.add_metric("process_memory.rss", info[0], "size")
        snapshot.add_metric("process_memory.vms", info[1], "size")


def add_unicode_metrics(snapshot):
    """Add unicode_interned.len and .size (of the table alone)."""
    size, length = _tracemalloc.get_unicode_interned()
    snapshot.add_metric("unicode_interned.len", length, "int")
    snapshot.add_metric("unicode_interned.size", size, "size")


def add_pymalloc_metrics(snapshot):
    """Add what the allocator of small blocks holds: pymalloc.*.

    size: bytes of its arenas; max_size: the most that they ever took;
    allocated: bytes in blocks, traced or not; free: bytes available for more
    blocks; fragmentation: the part of size that is free.
    """
    stats = get_arena_stats()
    free = stats["free"] + stats["fragmented"]
    blocks = sum(row["used_blocks"] for row in stats["size_classes"])
    snapshot.add_metric("pymalloc.size", stats["bytes"], "size")
    snapshot.add_metric("pymalloc.max_size",
                        max(_tracemalloc._get_arena_peak(), stats["bytes"]),
                        "size")
    snapshot.add_metric("pymalloc.allocated", stats["used"], "size")
    snapshot.add_metric("pymalloc.blocks", blocks, "int")
    snapshot.add_metric("pymalloc.free", free, "size")
    snapshot.add_metric("pymalloc.fragmentation",
                        _part(free, stats["bytes"]), "percent")


def add_tracemalloc_metrics(snapshot):
    """Add what is traced, and what the tracer takes: tracemalloc.*."""
    traced, max_traced = snapshot.traced_memory
    size = _tracemalloc.get_tracemalloc_memory()
    free = _tracemalloc._get_tracer_free_memory()
    traces = sum(stat.count for stat in snapshot.statistics("filename"))
    snapshot.add_metric("tracemalloc.arena_size",
                        get_arena_stats()["bytes"], "size")
    snapshot.add_metric("tracemalloc.module.size", size, "size")
    snapshot.add_metric("tracemalloc.module.free", free, "size")
    snapshot.add_metric("tracemalloc.module.fragmentation",
                        _part(free, size), "percent")
    snapshot.add_metric("tracemalloc.traced.size", traced, "size")
    snapshot.add_metric("tracemalloc.traced.max_size", max_traced, "size")
    snapshot.add_metric("tracemalloc.traces", traces, "int")


def _part(part, whole):
    return part / whole if whole else 0.0
