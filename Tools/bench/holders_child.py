"""Child of holders.py: make a heap of objects that hold each other, ask who.

    python holders_child.py TOOL OBJECTS DIRECTORY RESULT

TOOL is ours, which needs the tracer, heapy or objgraph, which need guppy3 or
objgraph.  The heap has about OBJECTS objects, most of them in a list that one
instance holds; DIRECTORY gets a snapshot.  RESULT gets a JSON object {step:
seconds}, and for ours "objects", "references", "file_bytes", "resident_bytes".
"""

import gc
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

PER_ITEM = 8         # an item, its dict and list, its numbers and texts
SMALL_ENOUGH = 2_000_000        # objects, for the shortest paths of Heapy


class Item:
    def __init__(self, i):
        self.number = i
        self.parts = [i, str(i)]
        self.names = {'x': i + 0.5}


class Shop:
    def __init__(self, items):
        self.items = items


def timed(function, *args):
    started = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - started, result


class Heart(threading.Thread):
    """Measures the longest time for which a sleeping thread could not
    continue."""

    def __init__(self):
        super().__init__(daemon=True)
        self.worst = 0.0
        self.start()

    def run(self):
        last = time.perf_counter()
        while True:
            time.sleep(0.0002)
            now = time.perf_counter()
            self.worst = max(self.worst, now - last)
            last = now

    def during(self, function, *args, **kwargs):
        """Return (longest pause, result)."""
        time.sleep(0.05)
        self.worst = 0.0
        result = function(*args, **kwargs)
        time.sleep(0.005)
        return self.worst, result


def bare_fork():
    """Return how long the process waits for a child that does nothing."""
    took, child = timed(os.fork)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return took


def resident():
    fields = pathlib.Path('/proc/self/statm').read_text().split()
    return int(fields[1]) * os.sysconf('SC_PAGE_SIZE')


def run_ours(objects, directory):
    import tracemalloc

    tracemalloc.start(1)
    shop = Shop([Item(i) for i in range(objects // PER_ITEM)])
    line = Item.__init__.__code__.co_firstlineno + 2      # self.parts
    gc.collect()
    found = {'collect': min(timed(gc.collect)[0] for i in range(3)),
             'resident_bytes': resident(),
             'bare_fork': min(bare_fork() for i in range(3))}
    heart = Heart()
    found['pause_without'] = min(
        heart.during(tracemalloc.take_snapshot)[0] for i in range(3))
    found['pause'], snapshot = min(
        (heart.during(tracemalloc.take_snapshot, references=True)
         for i in range(3)), key=lambda pair: pair[0])
    found['pause_of_child'] = min(
        heart.during(tracemalloc.take_snapshot, references=True,
                     pause=False)[0] for i in range(3))
    file = os.path.join(directory, 'holders.tracemalloc')
    found['dump'], _ = timed(snapshot.dump, file)
    found['file_bytes'] = os.path.getsize(file)
    del snapshot
    tracemalloc.take_snapshot().dump(file + '.plain')
    found['plain_file_bytes'] = os.path.getsize(file + '.plain')
    found['why'], done = timed(subprocess.run, [
        sys.executable, '-m', 'pytracemalloc', 'why', file,
        f'{__file__}:{line}'])
    found['why'] = found['why'] if done.returncode == 0 else None
    assert shop.items
    return found


def run_heapy(objects):
    from guppy import hpy

    shop = Shop([Item(i) for i in range(objects // PER_ITEM)])
    gc.collect()
    heapy = hpy()
    found = {}
    found['heap'], _ = timed(heapy.heap)
    items = heapy.iso(*shop.items)
    found['retained'], _ = timed(lambda: items.domisize)
    found['by_referrers'], _ = timed(lambda: str(items.byrcs))
    if objects <= SMALL_ENOUGH:
        found['shortest_paths'], _ = timed(lambda: str(items.shpaths))
    return found


def run_objgraph(objects):
    import objgraph

    shop = Shop([Item(i) for i in range(objects // PER_ITEM)])
    gc.collect()
    found = {}
    found['count'], _ = timed(objgraph.most_common_types)
    found['one_chain'], _ = timed(objgraph.find_backref_chain,
                                  shop.items[-1], objgraph.is_proper_module)
    return found


def main():
    tool, objects, directory, result = sys.argv[1:]
    run = {'ours': lambda n: run_ours(n, directory), 'heapy': run_heapy,
           'objgraph': run_objgraph}[tool]
    found = run(int(objects))
    pathlib.Path(result).write_text(json.dumps(found))


if __name__ == '__main__':
    main()
