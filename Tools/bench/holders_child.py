"""Child of holders.py: make a heap of objects that hold each other, ask who.

    python holders_child.py TOOL OBJECTS DIRECTORY RESULT

TOOL is ours, which needs the tracer, heapy or objgraph, which need guppy3 or
objgraph.  The heap has about OBJECTS objects, most of them in a list that one
instance holds; DIRECTORY gets a snapshot.  RESULT gets a JSON object {step:
seconds}, and for ours also bytes and numbers, as the names of steps say.

TOOL may be one of ours alone: analysis, how much memory is taken at most
beside the snapshot in DIRECTORY and its references, when it is first asked who
holds what; or dominators, how long they take for OBJECTS objects that each
refer to four others at random.
"""

import array
import gc
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time

PER_ITEM = 8         # an item, its dict and list, its numbers and texts
SMALL_ENOUGH = 2_000_000        # objects, for the shortest paths of Heapy
FILE = 'holders.tracemalloc'
RANDOM = 1_000_000   # objects with random references
EACH = 4             # references of one
HELD = 1000          # objects that nothing else needs to refer to


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


def ask_why(file, line):
    subprocess.run([sys.executable, '-m', 'pytracemalloc', 'why', file,
                    f'{__file__}:{line}'], check=True)


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
    file = os.path.join(directory, FILE)
    found['dump'], _ = timed(snapshot.dump, file)
    found['file_bytes'] = os.path.getsize(file)
    del snapshot
    tracemalloc.take_snapshot().dump(file + '.plain')
    found['plain_file_bytes'] = os.path.getsize(file + '.plain')
    found['why'] = min(timed(ask_why, file, line)[0] for i in range(3))
    found |= apart('analysis', objects, directory)
    if objects == RANDOM:
        found |= apart('dominators', RANDOM, directory)
    assert shop.items
    return found


def apart(tool, objects, directory):
    """Return what a process of its own finds."""
    result = os.path.join(directory, 'apart.json')
    subprocess.run([sys.executable, __file__, tool, str(objects), directory,
                    result], check=True)
    return json.loads(pathlib.Path(result).read_text())


def highest():
    """Return the highest resident memory since the last call, in bytes."""
    text = pathlib.Path('/proc/self/status').read_text()
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    return int(text.partition('VmHWM:')[2].split()[0]) * 1024


def run_analysis(directory):
    import tracemalloc
    import tracemalloc.holders

    snapshot = tracemalloc.Snapshot.load(os.path.join(directory, FILE))
    traces = snapshot.traces._traces
    traces._read_references()
    highest()
    before = resident()
    snapshot.holders()
    after = highest()
    numbers, _ = traces._dominators()
    objects = len(array.array('I', numbers))
    return {'analysis_bytes': after - before,
            'analysis_bytes_an_object': (after - before) / objects}


def run_dominators(objects):
    from test.test_pytracemalloc import made_graphs

    first = made_graphs.THREADS + 1
    arrays = made_graphs.Graph().arrays()
    made = struct.Struct('=QQIIII')
    arrays['objects'] = arrays['objects'][:first * made.size] + b''.join(
        made.pack(16 * i, EACH * i, 0, made_graphs.PLAIN, i < HELD,
                  made_graphs.NONE) for i in range(objects + 1))
    rng = random.Random(0)
    arrays['references'] = array.array('I', [
        first + int(rng.random() * objects) for _ in range(EACH * objects)]
        ).tobytes()
    traces = made_graphs.adopt(arrays)
    took, _ = timed(traces._dominators)
    return {'dominators_of_random_references': took}


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
           'objgraph': run_objgraph,
           'analysis': lambda n: run_analysis(directory),
           'dominators': run_dominators}[tool]
    found = run(int(objects))
    pathlib.Path(result).write_text(json.dumps(found))


if __name__ == '__main__':
    main()
