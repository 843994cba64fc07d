"""Threads that allocate all the time, compared with stock's tracemalloc.

Each workload runs in one, two, four and eight threads, a few calls deep and
fifty.  Without a GIL all of them compete for the data that the tracer protects
by a lock.  Modes of the same limit are compared: stock's tracemalloc with
ours.
"""

import pathlib

import measure
import scaling

CHILD = pathlib.Path(__file__).resolve().parent / 'threads.py'
WORKLOADS = ('small', 'mixed', 'grow', 'big')
DEPTHS = (3, 50)
THREADS = (1, 2, 4, 8)

# Modes that answer the same question: stock's and ours.
PAIRS = (('stock', 'off'), ('stock-1', '1'), ('stock-25', '25'))


def shapes():
    """Yield (workload, depth, threads)."""
    for workload in WORKLOADS:
        for depth in DEPTHS:
            for threads in THREADS:
                yield workload, depth, threads


def run(modes, rounds, timeout, rows, progress):
    """Add [workload, depth, threads, {mode: {'wall' or 'error'}}] to rows."""
    for shape in shapes():
        found = measure.alternate(modes, [CHILD, *shape], rounds, timeout)
        rows.append([*shape, {mode: scaling.median_of(runs)
                              for mode, runs in found.items()}])
        progress(' '.join(map(str, shape)))
