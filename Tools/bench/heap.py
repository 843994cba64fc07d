"""Child of scaling.py: make a heap, snapshot it, report seconds per step.

    python heap.py BLOCKS FRAMES SITES THREADS RESULT

BLOCKS tuples of one element, allocated under FRAMES frames, at SITES lines,
by THREADS threads, with a limit of FRAMES frames.  RESULT gets a JSON object
{step: seconds}, and "tracer_kib", the memory of the tracer with that heap.
It uses nothing that stock's tracemalloc lacks.
"""

import gc
import json
import os
import sys
import threading
import time
import tracemalloc


def allocator(sites):
    """Return a function of (keep, rounds) that allocates at `sites` lines.

    The lines are in functions of a hundred lines, as in programs: the cost
    of finding a line number depends on the length of its function.
    """
    source = []
    for first in range(0, sites, 100):
        source += [f'def part{first}(keep, rounds, x=None):',
                   '    for _ in range(rounds):']
        source += ['        keep((x,))'] * min(100, sites - first)
    scope = {}
    exec(compile('\n'.join(source), f'<{sites} sites>', 'exec'), scope)
    parts = [scope[f'part{first}'] for first in range(0, sites, 100)]

    def allocate(keep, rounds):
        for part in parts:
            part(keep, rounds)
    return allocate


def under(frames, function, *args):
    """Call the function with so many frames on the stack above this one."""
    if frames <= 1:
        return function(*args)
    return under(frames - 1, function, *args)


def populate(blocks, frames, sites, threads):
    """Allocate the heap; return (what keeps it, seconds)."""
    sys.setrecursionlimit(10_000)
    allocate = allocator(sites)
    share = max(1, blocks // sites // threads)
    heaps = [[] for _ in range(threads)]
    workers = [threading.Thread(target=under,
                                args=(frames, allocate, heap.append, share))
               for heap in heaps[1:]]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    under(frames, allocate, heaps[0].append, share)
    for worker in workers:
        worker.join()
    return heaps, time.perf_counter() - started


def timed(steps, name, function, *args):
    started = time.perf_counter()
    value = function(*args)
    steps[name] = time.perf_counter() - started
    return value


def main():
    *shape, result = sys.argv[1:]
    blocks, frames, sites, threads = map(int, shape)
    gc.disable()    # its cost is the heap's, the same for both
    tracemalloc.start(frames)
    heaps, seconds = populate(blocks, frames, sites, threads)
    steps = {'allocate': seconds}
    steps['tracer_kib'] = tracemalloc.get_tracemalloc_memory() / 1024
    old = timed(steps, 'snapshot', tracemalloc.take_snapshot)
    heaps[0].extend([(None, i) for i in range(1000)])
    new = tracemalloc.take_snapshot()
    timed(steps, 'free', heaps.clear)
    tracemalloc.stop()
    timed(steps, 'group by line', new.statistics, 'lineno')
    timed(steps, 'group by traceback', new.statistics, 'traceback')
    timed(steps, 'compare', new.compare_to, old, 'lineno')
    timed(steps, 'dump', new.dump, 'snapshot')
    del old
    timed(steps, 'load', tracemalloc.Snapshot.load, 'snapshot')
    steps['file_kib'] = os.path.getsize('snapshot') / 1024
    with open(result, 'w') as out:
        json.dump(steps, out)


if __name__ == '__main__':
    main()
