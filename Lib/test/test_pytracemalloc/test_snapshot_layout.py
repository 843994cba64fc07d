"""A reader of snapshot files written from the documentation alone, "Format of
snapshot files": it must find what the reader in C finds."""

import collections
import os
import struct
import tempfile
import unittest
import zlib

import tracemalloc
from tracemalloc import Snapshot

Node = collections.namedtuple('Node', 'caller location frames values')
Block = collections.namedtuple('Block', 'address size node kind')
Pool = collections.namedtuple('Pool', 'address block_size room used')


class Section:
    """Numbers of a section, one after the other."""

    def __init__(self, content):
        self.content = content
        self.at = 0

    def byte(self):
        self.at += 1
        return self.content[self.at - 1]

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def line(self):
        return self.number() - 1

    def difference(self):
        value = self.number()
        return ~(value // 2) if value % 2 else value // 2


def sections(image):
    magic, version = struct.unpack_from('<8sQ', image)
    assert (magic, version) == (b'\x89TRM\r\n\x1a\n', 8)
    at = 16
    while at < len(image):
        name, crc, length = struct.unpack_from('<4sIQ', image, at)
        content = image[at + 16:at + 16 + length]
        assert zlib.crc32(content) == crc
        yield name.decode(), Section(content)
        at += 16 + length


def read_texts(section):
    lengths = [section.number() for _ in range(section.number())]
    texts = []
    for length in lengths:
        text = section.content[section.at:section.at + length]
        texts.append(text.decode('utf-8', 'surrogatepass'))
        section.at += length
    return texts


def read_locations(section, texts):
    """Return (file name, line, function, first line, last line, columns)."""
    locations = []
    filename = function = texts[0] if texts else None
    line = first_line = 0
    columns = 0, 0
    for _ in range(section.number()):
        bits = section.byte()
        line += section.difference()
        if not bits & 1:
            filename = texts[section.number()]
        if not bits & 2:
            function = texts[section.number()]
        if not bits & 4:
            first_line = section.line()
        last_line = line if bits & 16 else section.line()
        if not bits & 8:
            columns = section.line(), section.line()
        locations.append((filename, line, function, first_line, last_line,
                          columns))
    return locations


def size_of_one(live, allocated):
    size, count = live if live[1] else allocated
    return size // count if count else 0


def read_values(section, bits, like):
    """Four pairs of size and count: live, allocated, peak, garbage."""
    values = list(like)
    one = size_of_one(like[0], like[1])
    for i in range(4):
        if bits & 8 << i:
            number = section.number()
            count = number // 2
            size = section.number() if number % 2 else count * one
            values[i] = size, count
            if i == 0:
                values[1:] = [values[0], values[0], (0, 0)]
        if i == 0 and values[0][1]:
            one = values[0][0] // values[0][1]
    return values


def read_nodes(section):
    nodes = []
    last_at = {}                  # location: node
    last_called = {}              # location of a caller: location
    last_first_call = 0
    for number in range(section.number()):
        bits = section.byte()
        steps = bits & 3
        if steps == 3:
            steps += section.number()
        caller = number - 1 if nodes else None
        for _ in range(steps):
            caller = nodes[caller].caller
        place = None if caller is None else nodes[caller].location
        location = last_called.get(place, last_first_call)
        location += section.difference()
        if place not in last_called:
            last_first_call = location
        last_called[place] = location
        if location in last_at:
            like = last_at[location]
        else:
            like = nodes[-1] if nodes else Node(None, 0, 0, [(0, 0)] * 4)
        if bits & 4:
            frames = section.number()
        elif caller is not None and nodes[caller].frames:
            frames = nodes[caller].frames + 1
        else:
            frames = like.frames
        node = Node(caller, location, frames,
                    read_values(section, bits, like.values))
        last_at[location] = node
        nodes.append(node)
    return nodes


def read_next(section):
    """Return {(moment, node): [size, count]}."""
    held = {}
    node = 0
    for _ in range(section.number()):
        moment = section.number()
        node += section.difference()
        sums = held.setdefault((moment, node), [0, 0])
        sums[0] += section.number()
        sums[1] += section.number()
    return held


def read_history(section):
    """Return the notes, as Snapshot.history has them."""
    notes = []
    time = traced = peak = rss = blocks = 0
    collections = [0, 0, 0]
    for _ in range(section.number()):
        time += section.number()
        traced += section.difference()
        most_traced = traced + section.number()
        peak += section.difference()
        rss += section.difference()
        most_rss = rss + section.number()
        blocks += section.difference()
        collections = [number + section.difference()
                       for number in collections]
        notes.append((time / 1e6, traced, most_traced, peak, rss, most_rss,
                      blocks, tuple(collections), section.number()))
    return notes


def read_pools(section):
    """Return (size of a pool, pools)."""
    size = section.number()
    pools = []
    number = 0
    for _ in range(section.number()):
        number += section.difference()
        pools.append(Pool(number * size, section.number(), section.number(),
                          section.number()))
    return size, pools


def read_blocks(section, nodes):
    assert section.number() == 1
    blocks = []
    last_at = {}                  # location: (size, kind)
    address = node = 0
    for _ in range(section.number()):
        bits = section.byte()
        steps = bits >> 3
        address += section.difference() if steps == 31 else 16 * steps
        if not bits & 2:
            node += section.difference()
        size, kind = last_at.get(nodes[node].location, (0, 0))
        if not bits & 1:
            size = section.number()
        if not bits & 4:
            kind = section.number()
        last_at[nodes[node].location] = size, kind
        blocks.append(Block(address, size, node, kind))
    return blocks


class File:

    def __init__(self, image):
        found = dict(sections(image))
        self.texts = read_texts(found['TEXT'])
        self.locations = read_locations(found['LOCS'], self.texts)
        self.nodes = read_nodes(found['TREE'])
        self.next = read_next(found['NEXT'])
        self.kinds = [(self.texts[found['KIND'].number()],
                       found['KIND'].number(), found['KIND'].number())
                      for _ in range(found['KIND'].number())]
        self.pool_size, self.pools = read_pools(found['POOL'])
        self.blocks = read_blocks(found['BLKS'], self.nodes)
        self.history = read_history(found['HIST'])

    def path(self, node):
        """Locations, the most recent first."""
        path = []
        while node is not None:
            path.append(self.locations[self.nodes[node].location])
            node = self.nodes[node].caller
        return path


def recursive(depth):
    return [recursive(depth - 1), {depth: (depth,)}, bytearray(depth)] \
        if depth else str(depth)


class LayoutTests(unittest.TestCase):

    def check(self, snapshot):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'x')
            snapshot.dump(path)
            with open(path, 'rb') as file:
                found = File(file.read())
            again = Snapshot.load(path)
        self.assertEqual(
            [(found.kinds[block.kind][2], block.size,
              [frame[:2] for frame in found.path(block.node)],
              found.nodes[block.node].frames or None)
             for block in found.blocks],
            [(domain, size, [tuple(frame) for frame in frames], total)
             for domain, size, frames, total in again.traces._traces])
        self.assertEqual(
            collections.Counter(found.kinds[block.kind][0]
                                for block in found.blocks),
            {stat.key: stat.count for stat in again.statistics('type')})
        self.assertEqual(
            sorted((block.address, block.size) for block in found.blocks),
            sorted((stat.key, stat.size)
                   for stat in again.statistics('address')))
        self.check_tree(found, again)
        self.check_next(found, again)
        self.check_pools(found, again)
        self.assertEqual(found.history, again.history)

    def check_tree(self, found, snapshot):
        sums = collections.Counter()
        for number, node in enumerate(found.nodes):
            path = tuple(location[:4] for location in found.path(number))
            for i, value in enumerate(sum(node.values, ())):
                sums[path, i] += value
        paths = []
        expected = collections.Counter()
        for row in snapshot.call_tree().nodes:
            filename, line, function, first_line = row[1:5]
            here = (filename, line, function or '',
                    -1 if first_line is None else first_line)
            path = (here,) + (paths[row[0]] if row[0] >= 0 else ())
            paths.append(path)
            for i, value in enumerate(row[5:]):
                expected[path, i] += value
        self.assertEqual(+sums, +expected)

    def check_next(self, found, snapshot):
        for moment, peak in enumerate(snapshot.peaks[1:]):
            sums = collections.defaultdict(lambda: [0, 0])
            for (number, node), held in found.next.items():
                if number == moment:
                    line = sums[found.path(node)[0][:2]]
                    line[0] += held[0]
                    line[1] += held[1]
            self.assertEqual(sums, {
                stat.key: [stat.size, stat.count]
                for stat in peak.statistics('lineno')})
            self.assertGreater(len(sums), 0)

    def check_pools(self, found, snapshot):
        """How full they are, and what lines keep of the sparse ones."""
        use = snapshot.arena_use
        if not found.pool_size:
            self.assertEqual(use[3:6], (None, None, None))
            return
        fills = collections.defaultdict(lambda: [[0, 0] for _ in range(5)])
        for pool in found.pools:
            quarters = 4 * pool.used // pool.room
            fill = fills[pool.block_size][quarters]
            fill[0] += 1
            fill[1] += pool.room - pool.used
        self.assertEqual({row.block_size: [[*fill] for fill in row.fills]
                          for row in use.classes}, fills)
        self.assertEqual(use.pools, len(found.pools))
        sparse = {pool.address: pool for pool in found.pools
                  if pool.used < pool.room / 4}
        kept = collections.defaultdict(lambda: [set(), 0])
        for block in found.blocks:
            pool = sparse.get(block.address & -found.pool_size)
            if pool is not None:
                line = kept[found.path(block.node)[0][:2]]
                line[0].add(pool)
                line[1] += found.pool_size / pool.used
        self.assertEqual(
            {(line.filename, line.lineno): (line.sparse_pools,
                                            line.sparse_kept)
             for line in use.lines if line.sparse_pools},
            {line: (len(pools), round(size))
             for line, (pools, size) in kept.items()})

    def test_next_peaks(self):
        tracemalloc.start(3)
        self.addCleanup(tracemalloc.stop)
        [bytes(1000) for _ in range(200)]
        [bytearray(1000) for _ in range(195)]
        [str(i) * 500 for i in range(180)]
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        self.assertEqual(len(snapshot.peaks), 3)
        self.check(snapshot)

    def test_live(self):
        for nframe in 1, 3, 25:
            tracemalloc.start(nframe)
            self.addCleanup(tracemalloc.stop)
            keep = [recursive(6) for _ in range(10)]
            del keep[::2]
            keep += [recursive(3) for _ in range(5)]
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
            with self.subTest(nframe=nframe):
                self.check(snapshot)

    def test_history(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start_history(0.001)
        self.addCleanup(tracemalloc.stop_history)
        while len(tracemalloc.get_history()) < 50:
            keep = bytearray(100_000)
        keep += bytes(500_000)
        tracemalloc.take_snapshot()
        snapshot = tracemalloc.take_snapshot()
        self.assertGreaterEqual(len(snapshot.history), 50)
        self.assertGreaterEqual(
            sum(note.snapshots for note in snapshot.history), 2)
        self.check(snapshot)

    def test_given(self):
        self.check(Snapshot(
            [(0, 10, (('a.py', 2), ('b.py', 4)), 3),
             (0, 10, (('a.py', 2), ('b.py', 4)), 3),
             (7, 1 << 40, (('a.py', 9), ('b.py', 4)), 2),
             (5, 7, (('\udc80 é 漢.py', 0),), None)], 2))


if __name__ == '__main__':
    unittest.main()
