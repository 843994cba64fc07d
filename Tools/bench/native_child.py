"""Child of native.py: a workload of a library that allocates in C.

    python [options] native_child.py WORKLOAD PLACE RESULT

PLACE is the folder that the libraries are in.  What a workload needs is made
before the clocks start.  RESULT gets what child.py writes.
"""

import json
import re
import sqlite3
import sys
import time

from child import cpu_seconds, peak_kib


def lxml():
    """Parse documents, walk over their nodes."""
    from lxml import etree
    text = b''.join(b"<a id='%d'><b>text %d</b><c/></a>" % (i, i)
                    for i in range(20_000))

    def run():
        for _ in range(12):
            tree = etree.fromstring(b'<r>' + text + b'</r>')
            sum(1 for node in tree.iter('b'))
    return run


def deep():
    """Parse tiny documents, three hundred calls deep."""
    from lxml import etree

    def down(n):
        if n:
            return down(n - 1)
        for _ in range(60_000):
            etree.fromstring('<a><b/></a>')
    return lambda: down(300)


def callbacks():
    """C code that calls Python code that calls C code."""
    from lxml import etree
    nodes = [etree.fromstring("<a i='%d'><b/></a>" % (i * 7919 % 1000))
             for i in range(1000)]

    def run():
        for _ in range(60):
            sorted(nodes, key=lambda node: etree.tostring(node))
            re.sub('a', lambda match: etree.tostring(nodes[0]).decode(),
                   'a' * 1500)
    return run


def sqlite():
    """Fill a table, ask for rows by statements that differ."""
    def run():
        for _ in range(3):
            with sqlite3.connect(':memory:') as db:
                db.execute('create table t(a,b,c)')
                db.executemany('insert into t values(?,?,?)',
                               ((i, str(i), i * 1.5) for i in range(40_000)))
                for i in range(3000):
                    db.execute('select a,b from t where a=%d limit 1'
                               % (i % 500)).fetchall()
            db.close()
    return run


def numpy():
    """Short arrays; the inverse of small matrices."""
    import numpy
    numbers = numpy.arange(200.)

    def run():
        for _ in range(250_000):
            numbers * 2.0 + 1.0
        for _ in range(60):
            numpy.linalg.inv(numpy.random.rand(60, 60))
    return run


def arrow():
    """Tables from lists, and back."""
    import pyarrow
    import pyarrow.compute

    def run():
        for _ in range(800):
            table = pyarrow.table({'a': list(range(1000)),
                                   'b': [str(i) for i in range(1000)]})
            pyarrow.compute.sum(table['a'])
            table.slice(5, 100).to_pylist()
    return run


def in_json():
    """No library: text to objects and back."""
    rows = [{'id': i, 'name': 'n%d' % i, 'tags': ['a', 'b', str(i)],
             'v': i * 1.1} for i in range(3000)]

    def run():
        for _ in range(80):
            json.loads(json.dumps(rows))
    return run


WORKLOADS = {'lxml': lxml, 'deep': deep, 'callbacks': callbacks,
             'sqlite': sqlite, 'numpy': numpy, 'arrow': arrow,
             'json': in_json}


def main():
    name, place, result = sys.argv[1:]
    sys.path.append(place)
    run = WORKLOADS[name]()
    wall, cpu = time.perf_counter(), cpu_seconds()
    run()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    with open(result, 'w') as out:
        json.dump({'wall': wall, 'cpu': cpu, 'peak_kib': peak_kib()}, out)


if __name__ == '__main__':
    main()
