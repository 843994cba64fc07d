"""Inside a traced service: a snapshot a second, and what it took.

Each line of the file is a JSON object: seconds since the start, the time
that take_snapshot() took, its blocks, and the memory of tracer and program.
"""

import json
import threading
import time
import tracemalloc


def start(path, kind):
    """Take snapshots from a thread for as long as this process lives.

    *kind* is 'blocks' for snapshots of all blocks, 'sums' for those without.
    """
    threading.Thread(target=_watch, args=(path, kind == 'blocks'),
                     daemon=True, name='snapshots').start()


def _watch(path, traces):
    begin = due = time.monotonic()
    with open(path, 'w', buffering=1) as out:
        while True:
            due += 1
            time.sleep(max(0.0, due - time.monotonic()))
            before = time.perf_counter()
            snapshot = tracemalloc.take_snapshot(traces=traces)
            pause = time.perf_counter() - before
            blocks = len(snapshot.traces)
            del snapshot
            current, peak = tracemalloc.get_traced_memory()
            out.write(json.dumps(
                {'time': round(time.monotonic() - begin, 2), 'pause': pause,
                 'blocks': blocks, 'current': current, 'peak': peak,
                 'tracer': tracemalloc.get_tracer_stats()}) + '\n')
