"""Workloads of the interpreter and the machine.

Imports, exec, SQLite, threads, the raw domain, and a heap larger than any
cache.
"""

import importlib
import pkgutil
import random
import sqlite3
import sys
import threading
import warnings

from . import workload

# Not to be imported for the sake of importing: they print, open windows,
# start a REPL, or are tests.
UNWELCOME = {'antigravity', 'this', 'idlelib', 'test', 'turtledemo',
             '__main__', 'tkinter', 'turtle', '_pyrepl', 'lib2to3'}


def standard_modules():
    """Yield the names of the modules and packages of the library."""
    import os
    for entry in sorted(pkgutil.iter_modules([os.path.dirname(os.__file__)])):
        if entry.name not in UNWELCOME and 'pytracemalloc' not in entry.name:
            yield entry.name


@workload(1)
def import_all(loops):
    """Import the whole standard library, from byte code."""
    warnings.simplefilter('ignore')
    for _ in range(loops):
        before = set(sys.modules)
        for name in standard_modules():
            try:
                importlib.import_module(name)
            except ImportError:
                pass
        if loops > 1:
            for name in set(sys.modules) - before:
                del sys.modules[name]


@workload(100)
def exec_loop(loops):
    """exec(): code objects compiled, run, and dropped, 100 a loop."""
    for loop in range(loops):
        for i in range(100):
            source = (f'def f{i}(x):\n    y = [x, {loop}]\n'
                      f'    return y + [k for k in range(5)]\n'
                      f'class C{i}:\n    z = f{i}({i})\n')
            scope = {}
            exec(compile(source, f'<generated {i}>', 'exec'), scope)
            scope[f'f{i}'](1)


@workload(61)
def sqlite_round_trip(loops):
    """sqlite3 in memory: insert, index, select, and a Python aggregate."""
    class Longest:
        def __init__(self):
            self.best = ''

        def step(self, value):
            self.best = max(self.best, value, key=len)

        def finalize(self):
            return self.best

    for _ in range(loops):
        with sqlite3.connect(':memory:') as db:
            db.create_aggregate('longest', 1, Longest)
            db.execute('create table item (id integer, name text, v real)')
            db.executemany('insert into item values (?, ?, ?)',
                           ((i, f'item {i}', i / 3) for i in range(4000)))
            db.execute('create index by_name on item (name)')
            db.execute('select * from item order by v desc').fetchall()
            db.execute('select longest(name) from item').fetchone()
        db.close()


@workload(8, threads=True)
def threads(loops):
    """16 threads that allocate, call and hand objects to each other."""
    import queue
    handed = queue.SimpleQueue()

    def work(number):
        for i in range(loops * 1500):
            rows = [(number, i, str(i)) for _ in range(5)]
            handed.put({'rows': rows})
            if i % 2:
                handed.get()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@workload(10_000, quick=False)
def large_heap(loops):
    """A heap of 1,000 objects a loop (10 million), then churn in it."""
    source = random.Random(5)
    heap = [[(i, None)] for i in range(loops * 500)]
    for i in range(loops * 20):
        heap[source.randrange(len(heap))] = [(i, None)]


@workload(1300)
def big_arrays(loops):
    """Buffers from the raw domain and memory above 512 bytes."""
    import array
    for _ in range(loops):
        parts = [bytearray(1 << (10 + i % 8)) for i in range(120)]
        numbers = array.array('d', bytes(8 * 20000))
        for part in parts:
            part.extend(b'x' * 600)
        numbers.extend(numbers[:10000])
        [memoryview(part)[10:] for part in parts]
        b''.join(parts)


@workload(62)
def raw_domain(loops):
    """PyMem_Raw blocks by the thousand: locks and wide strings."""
    import locale
    for _ in range(loops * 10):
        locks = [threading.Lock() for _ in range(3000)]
        for lock in locks[::3]:
            with lock:
                pass
        for i in range(2000):
            locale.strxfrm('some text %d' % i)
