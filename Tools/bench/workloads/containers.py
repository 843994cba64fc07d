"""Workloads of the built-in containers, each with a free list of its own."""

import collections
import copy
import heapq

from . import workload


@workload(1300000)
def unpack_sequence(loops):
    """Tuples and lists unpacked on one line: the worst case of stock."""
    pair = (1, 2, 3, 4)
    row = [1, 2, 3, 4]
    for _ in range(loops * 8):
        a, b, c, d = pair
        a, b, c, d = row
        a, b, c, d = d, c, b, a


@workload(10000)
def comprehensions(loops):
    """List, dict and set comprehensions with small results."""
    for _ in range(loops):
        rows = [(i, str(i)) for i in range(300)]
        table = {name: key for key, name in rows if key % 3}
        lengths = {len(name) for name in table}
        [name for name, key in table.items() if key % 2 and lengths]


@workload(810)
def list_heavy(loops):
    """Lists made, grown, sliced, sorted and dropped."""
    for _ in range(loops):
        rows = [[i, i + 1, i + 2] for i in range(3000)]
        flat = []
        for row in rows:
            flat.extend(row)
        parts = [flat[i:i + 10] for i in range(0, len(flat), 10)]
        parts.sort(key=lambda part: -part[0])
        while len(flat) > 10:
            del flat[len(flat) // 2:]


@workload(520)
def dict_heavy(loops):
    """Dicts: made, filled, copied, merged, emptied."""
    for _ in range(loops):
        rows = [{'id': i, 'name': 'x', 'tags': {}} for i in range(1500)]
        index = {row['id']: row for row in rows}
        for i in range(1500):
            index[i]['tags'][i] = index[i]['id']
        merged = [row | {'more': 1} for row in rows]
        grouped = collections.defaultdict(list)
        for row in merged:
            grouped[row['id'] % 17].append(row)
        while index:
            index.popitem()


@workload(830)
def tuple_heavy(loops):
    """Tuples of every small size, zipped and compared."""
    for _ in range(loops):
        rows = [(i, i * 2, -i) for i in range(2000)]
        pairs = list(zip(rows, reversed(rows)))
        triples = [a + b + (0,) for a, b in pairs]
        {row[:2]: row[2:] for row in triples}
        sorted(triples, key=lambda row: row[2])


@workload(2300)
def set_heavy(loops):
    """Sets: unions, differences and a sieve."""
    for _ in range(loops):
        numbers = set(range(2, 2500))
        for i in range(2, 51):
            if i in numbers:
                numbers -= set(range(i * i, 2500, i))
        {frozenset((n, n + 2)) for n in numbers if n + 2 in numbers}


@workload(240)
def deque_heap(loops):
    """A deque and a heap: breadth-first search and shortest paths."""
    side = 60
    for _ in range(loops):
        queue = collections.deque([(0, 0)])
        seen = {(0, 0)}
        while queue:
            x, y = queue.popleft()
            for nx, ny in ((x + 1, y), (x, y + 1)):
                if nx < side and ny < side and (nx, ny) not in seen:
                    seen.add((nx, ny))
                    queue.append((nx, ny))
        heap = []
        for i in range(2000):
            heapq.heappush(heap, (i * 7919 % 2003, i))
        while heap:
            heapq.heappop(heap)


@workload(630)
def deepcopy(loops):
    """copy.deepcopy() of nested data with shared parts."""
    shared = {'k': list(range(10))}
    data = {'rows': [{'id': i, 'link': shared, 'pair': (i, [i])}
                     for i in range(80)]}
    for _ in range(loops * 3):
        copy.deepcopy(data)


@workload(30)
def nqueens(loops):
    """Sets, tuples and a recursive generator: eight queens."""
    def place(row, columns, down, up):
        if row == 8:
            yield columns
            return
        for column in range(8):
            if (column in columns or row + column in up
                    or row - column in down):
                continue
            yield from place(row + 1, columns + (column,),
                             down | {row - column}, up | {row + column})

    for _ in range(loops * 8):
        sum(1 for _ in place(0, (), frozenset(), frozenset()))
