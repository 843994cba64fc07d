"""Made-up call trees with known sums, in the form that snapshots have."""

import datetime

# parent, filename, lineno, function, first_lineno, then size count total_size
# total_count peak_size peak_count garbage_size garbage_count
NODES = [
    (-1, '/app/main.py', 30, '<module>', 1, 100, 1, 150, 2, 100, 1, 0, 0),
    (0, '/app/main.py', 12, 'main', 10, 0, 0, 40, 4, 40, 4, 0, 0),
    (1, '/app/shop.py', 7, 'Shop.load', 5, 3000, 30, 5000, 50, 4000, 40,
     500, 5),
    (1, '/app/shop.py', 9, 'Shop.load', 5, 2000, 2, 2000, 2, 2000, 2, 0, 0),
    (3, '/app/shop.py', 9, 'Shop.load', 5, 7, 1, 7, 1, 7, 1, 0, 0),
    (-1, '<frozen runpy>', 88, '_run_code', 80, 900, 9, 900, 9, 900, 9, 0, 0),
]
# A thread that runs work(), the main thread, and one that C code has made.
_LIB = '/usr/lib/python3.13'
THREADS = [
    (-1, f'{_LIB}/threading.py', 1014, 'Thread._bootstrap', 1000,
     0, 0, 0, 0, 0, 0, 0, 0),
    (0, f'{_LIB}/threading.py', 1043, 'Thread._bootstrap_inner', 1035,
     5, 1, 5, 1, 5, 1, 0, 0),
    (1, f'{_LIB}/threading.py', 994, 'Thread.run', 985,
     0, 0, 0, 0, 0, 0, 0, 0),
    (-1, '/app/main.py', 30, '<module>', 1, 900, 9, 900, 9, 900, 9, 0, 0),
    (-1, '/app/main.py', 40, 'callback', 39, 3, 1, 3, 1, 3, 1, 0, 0),
    (2, '/app/main.py', 12, 'work', 10, 100, 5, 100, 5, 100, 5, 0, 0),
    (5, f'{_LIB}/threading.py', 1092, 'join', 1080, 7, 1, 7, 1, 7, 1, 0, 0),
]
# A module that imports another, through the import system.
IMPORTS = [
    (-1, '/app/main.py', 2, '<module>', 1, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, '<frozen importlib._bootstrap>', 1360, '_find_and_load', 1340,
     0, 0, 0, 0, 0, 0, 0, 0),
    (1, '<frozen importlib._bootstrap_external>', 900, 'get_code', 850,
     1000, 10, 1000, 10, 1000, 10, 0, 0),
    (1, '/app/shop.py', 1, '<module>', 1, 7, 1, 7, 1, 7, 1, 0, 0),
]
# What the traces of a snapshot are made from.
RAW = [(0, 10, (('a.py', 2), ('b.py', 4)), 3),
       (0, 10, (('a.py', 2), ('b.py', 4)), 3),
       (5, 7, (('\udc80 \u00e9 \u6f22.py', 0),), None)]
TYPES = [(2, 'dict', 2900, 29), (3, 'list', 2000, 2), (5, 'str', 900, 9)]

HOSTILE = ('</script><script>window.hacked=1</script>'
           '<img src=x onerror=window.hacked=1>"\';\n\x1b[31m\u2028')


class CallTree:
    def __init__(self, nodes, types=()):
        self.nodes = nodes
        self._types = list(types)

    def by_native(self):
        return []

    def by_type(self):
        return self._types


class Snapshot:
    """As much of a snapshot as the reports of call trees look at."""
    has_references = False

    def __init__(self, nodes=NODES, types=TYPES):
        self.nodes = nodes
        self.types = types
        self.pid = 4242
        self.traceback_limit = 10
        self.timestamp = datetime.datetime(2026, 5, 17, 12, 30)
        self._peaks = []
        self.rss = None
        self.traced_memory = (sum(node[5] for node in nodes),
                              sum(node[9] for node in nodes))
        self.freelists = {'float': (10, 240)}
        self.metadata = {'gc.objects': 5}
        self.program = None

    def call_tree(self):
        return CallTree(self.nodes, self.types)

    def _more_than_at_peak(self):
        return iter(())


def older(nodes=NODES):
    """A snapshot of before: half of everything, one path more, one less."""
    nodes = [(*node[:5], *(value // 2 for value in node[5:]))
             for node in nodes[:-1]]
    nodes.append((0, '/app/gone.py', 3, 'gone', 1, 60, 6, 60, 6, 60, 6, 0, 0))
    return Snapshot(nodes, ())


def big_snapshot(count):
    """A bushy tree of *count* nodes over 3,000 lines, some of them deep."""
    nodes = []
    for index in range(count):
        parent = index - 1 if index % 50 else index * 7 // 10 - 1
        size = (index * 7919) % 4093
        values = size, size // 64 + 1
        line = (index * index + index // 3) % 3000
        nodes.append((parent, f'/app/pkg{line % 13}/mod{line % 39}.py',
                      line + 1, f'function_{line // 10}', 1,
                      *values * 3, 0, 0))
    return Snapshot(nodes, ())


def totals(nodes, columns=8):
    return [sum(node[5 + index] for node in nodes)
            for index in range(columns)]
