"""Child of contention.py: threads that allocate, seconds by the wall clock.

    python threads.py WORKLOAD DEPTH THREADS RESULT

Each of THREADS threads, DEPTH calls deep, does the whole workload, on the
processors in turn, so that they run side by side where there is no GIL.
RESULT gets a JSON object {"wall": seconds}, from the moment that all threads
are there to the end of the last.  Where nothing is traced, the workload is
ten times as long.
"""

import json
import os
import sys
import threading
import time
import tracemalloc

# A run takes some hundredths of a second, or tenths.
LOOPS = 60_000 if tracemalloc.is_tracing() else 600_000


def small():
    """Small blocks that replace each other: lists of one int."""
    kept = [None] * 1000
    for i in range(LOOPS):
        kept[i % 1000] = [i]


def mixed():
    """Dictionaries, strings, tuples and lists that replace each other."""
    kept = [None] * 1000
    for i in range(LOOPS // 4):
        kept[i % 1000] = {i: str(i), 'x': (i, [i])}


def grow():
    """Small blocks that all stay."""
    kept = []
    for i in range(LOOPS):
        kept.append((i, i))


def big():
    """Blocks of 2,000 bytes that die at once."""
    for _ in range(LOOPS):
        bytes(2000)


WORKLOADS = {work.__name__: work for work in (small, mixed, grow, big)}


def under(depth, work):
    return work() if depth <= 1 else under(depth - 1, work)


def main():
    name, depth, threads, result = sys.argv[1:]
    work, depth, threads = WORKLOADS[name], int(depth), int(threads)
    processors = sorted(os.sched_getaffinity(0))
    started = []
    ready = threading.Barrier(
        threads, action=lambda: started.append(time.perf_counter()))

    def run(number):
        os.sched_setaffinity(0, {processors[number % len(processors)]})
        ready.wait()
        under(depth, work)

    workers = [threading.Thread(target=run, args=(number,))
               for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall = time.perf_counter() - started[0]
    with open(result, 'w') as out:
        json.dump({'wall': wall}, out)


if __name__ == '__main__':
    main()
