"""pytracemalloc rss, and the account of resident memory in snapshots."""
import collections
import json
import os
import re
import subprocess
import sys
import textwrap
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import (
    DEBUG_HOOKS, FREE_THREADED, HAS_ARENAS, SANITIZED, Tracing)
from test.test_pytracemalloc.snapshot_sections import join, sections
from tracemalloc.resident import OWNERS

MIB = 1 << 20


def kernels_rss(pid):
    with open(f'/proc/{pid}/smaps') as file:
        return sum(int(line.split()[1]) * 1024 for line in file
                   if line.startswith('Rss:'))


@unittest.skipIf(SANITIZED, 'a sanitizer maps terabytes of its own')
class ProcessTest(CommandCase):

    def document(self, *args):
        document = json.loads(self.ok('rss', *args, '--json'))
        self.assertEqual((document['format'], document['version']),
                         ('pytracemalloc rss', 1))
        rows = document['rows']
        self.assertEqual(sum(row['size'] for row in rows), document['total'])
        self.assertEqual(sum(row['size'] for row in rows
                             if row['owner'] == 'unexplained'),
                         document['unexplained'])
        self.assertLessEqual({row['owner'] for row in rows}, {*OWNERS})
        return document

    def test_socket(self):
        pid = self.start_watched()
        for target in str(pid), 'c.sock':
            document = self.document(target)
            self.assertEqual(document['pid'], pid)
            # Its thread answers meanwhile, and makes rows.
            self.assertAlmostEqual(document['total'], kernels_rss(pid),
                                   delta=2 * MIB)
            self.assertLess(document['unexplained'], document['total'] / 20)
            self.assertIn('tables', [row['name'] for row in document['rows']])

    def test_directory(self):
        pid = self.start_watched()
        output = self.ok('rss', '.')
        self.assertRegex(output, r'\A *[\d.]+ MiB +resident memory\n')
        self.assertIn('the tracer\n', output)
        documents = self.ok('rss', '.', '--json').splitlines()
        self.assertEqual([json.loads(text)['pid'] for text in documents],
                         [pid])

    def test_all(self):
        self.start_watched()
        short, long = self.ok('rss', 'c.sock'), self.ok('rss', 'c.sock',
                                                        '--all')
        self.assertGreater(long.count('.so'), short.count('.so'))
        self.assertNotIn(' others', long)

    def sleeper(self, *args):
        program = subprocess.Popen(args, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        self.addCleanup(program.communicate)
        program.stdout.readline()
        return program.pid

    @unittest.skipUnless(hasattr(sys, 'remote_exec'), 'new in 3.14')
    def test_without_a_socket(self):
        pid = self.sleeper(
            sys.executable, '-c', 'import sys, time\nprint(flush=True)\n'
            'import select\n'
            'while not select.select([sys.stdin], [], [], .05)[0]: pass')
        document = self.document(str(pid))
        self.assertEqual(document['pid'], pid)
        if not FREE_THREADED:     # mimalloc has no arenas that it tells
            self.assertRegex('\n'.join(document['notes']), 'tracing is off')

    def test_another_program(self):
        pid = self.sleeper('sh', '-c', 'echo; read line')
        document = self.document(str(pid))
        self.assertEqual(document['total'], kernels_rss(pid))
        note, = document['notes']
        self.assertRegex(note, '(not run Python|no control socket), so this '
                               'is what smaps alone can tell')
        self.assertIn(f'Note: {note}.\n', self.ok('rss', str(pid)))
        sizes = {row['owner']: row['size'] for row in document['rows']}
        self.assertLess(sizes.get('unexplained', 0), document['total'] / 4)
        for owner in 'code', 'data', 'stack', 'malloc':
            self.assertGreater(sizes[owner], 0)

    def test_refused(self):
        self.refused(1, 'there is no process 4194999', 'rss', '4194999')
        self.refused(1, 'no such socket', 'rss', 'nothing.tracemalloc')
        self.refused(2, r'\brss --help\b', 'rss')
        self.write('text', 'no snapshot\n')
        self.refused(1, 'not a whole snapshot', 'rss', 'text')


class SnapshotTest(CommandCase):

    def take(self, **kind):
        with Tracing(1):
            return tracemalloc.take_snapshot(**kind)

    def test_recorded(self):
        snapshot = self.take()
        rss = snapshot.rss
        self.assertEqual(sum(row.size for row in rss.rows), rss.total)
        snapshot.dump('a.tracemalloc')
        loaded = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertEqual(loaded.rss.rows, rss.rows)
        self.assertEqual(loaded.rss.total, rss.total)
        self.assertEqual(loaded.filter_traces([]).rss.rows, rss.rows)
        document = json.loads(self.ok('rss', 'a.tracemalloc', '--json'))
        self.assertEqual(document['total'], rss.total)
        self.assertTrue(self.ok('rss', 'a.tracemalloc').startswith(
            ''.join(f'{line}\n' for line in rss.format())))

    @unittest.skipIf(SANITIZED, 'a sanitizer has a malloc() of its own')
    def test_a_run_records_it(self):
        self.write('app.py', 'keep = b"x" * (64 << 20)\n')
        command('run', '-q', '-o', 'a.tracemalloc', 'app.py', check=True)
        rss = tracemalloc.Snapshot.load('a.tracemalloc').rss
        self.assertGreater(rss.sum('malloc') + rss.sum('mimalloc'), 64 * MIB)

    def test_older_file(self):
        # Before version 7 a file did not have the pools.
        self.take().dump('new.tracemalloc')
        with open('new.tracemalloc', 'rb') as file:
            found = dict(sections(file.read()))
        del found[b'POOL'], found[b'NATV']
        with open('old.tracemalloc', 'wb') as file:
            file.write(join(found.items(), 6))
        document = json.loads(self.ok('rss', 'old.tracemalloc', '--json'))
        self.assertIsNone(document['arenas'])
        self.assertNotIn('given back', self.ok('rss', 'old.tracemalloc'))
        document = json.loads(self.ok('report', 'old.tracemalloc', '--format',
                                      'json'))
        self.assertIsNone(document['snapshot']['arenas'])
        self.assertIsNotNone(document['snapshot']['rss'])
        self.ok('report', 'old.tracemalloc', '-o', 'page.html')

    def test_few_rows(self):
        # As many as a person reads, not one for each library.
        rows = self.take().rss.rows
        for owner in OWNERS:
            self.assertLessEqual(sum(row.owner == owner for row in rows), 13)

    def test_not_recorded(self):
        for number, snapshot in enumerate([
                self.take(traces=False),
                tracemalloc.Snapshot([(0, 8, (('a.py', 1),), 1)], 1)]):
            self.assertIsNone(snapshot.rss)
            name = f'{number}.tracemalloc'
            snapshot.dump(name)
            self.refused(1, 'no record of resident memory', 'rss', name)
        snapshot = self.take()
        snapshot.dump('a.pickle', format='pickle')
        self.refused(1, 'no record of resident memory', 'rss', 'a.pickle')

    def test_without_memory(self):
        # The workspace does not fit below the limit; the snapshot does.
        done = subprocess.run([sys.executable, '-Xtracemalloc', '-c', '''if 1:
            import mmap, resource, tracemalloc
            with open('/proc/self/statm') as file:
                pages = int(file.read().split()[0])
            snapshot = tracemalloc.take_snapshot()
            limit = pages * mmap.PAGESIZE + (6 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            print(tracemalloc.take_snapshot().rss)
            try:
                tracemalloc.rss()
            except MemoryError:
                print('MemoryError')
            '''], capture_output=True, text=True)
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.stdout, 'None\nMemoryError\n')

    def test_damaged(self):
        good = self.take()
        row = ['code', 'a', '', 1, 1]
        whole = {'rows': [row], 'total': 1, 'notes': []}
        good._rss = whole
        good.dump('good.tracemalloc')
        self.ok('rss', 'good.tracemalloc')
        for bad in (7, [], {}, {'rows': 1}, {'rows': [row[:4]]},
                    {'rows': [['nobody', *row[1:]]]},
                    {'rows': [[*row[:4], -1]]}, {'rows': [[*row[:4], 1.5]]},
                    {'rows': [['code', 1, *row[2:]]]},
                    {'rows': [row] * 5000}, {'total': True}, {'notes': [1]},
                    {'notes': ['a'] * 99}):
            with self.subTest(bad=str(bad)[:60]):
                good._rss = whole | bad if bad and bad != 7 else bad
                good.dump('bad.tracemalloc')
                self.refused(1, 'damaged metadata', 'rss', 'bad.tracemalloc')
        good._rss = {'rows': [['code', 'a\x1b[2J\n', 's\x1b', 1, 9]],
                     'total': 9, 'notes': ['a\x1b\nb']}
        good.dump('hostile.tracemalloc')
        output = self.ok('rss', 'hostile.tracemalloc')
        self.assertNotIn('\x1b', output)
        self.assertRegex(output.splitlines()[3], r'\ANote: a\\x1b\\nb\.\Z')


@unittest.skipUnless(HAS_ARENAS, 'without the GIL there are no arenas')
@unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
class ArenasTest(CommandCase):
    """Which lines keep arenas: a program that leaves a few blocks in each."""

    PROGRAM = """\
    import tracemalloc

    def make(count):
        return [(str(number), float(number)) for number in range(count)]

    def work():
        pairs = make(400_000)
        return [text for text, number in pairs[::2000]]

    kept = work()
    tracemalloc.take_snapshot().dump('kept.tracemalloc')
    """

    @classmethod
    def setUpClass(cls):
        cls.app = cls.make_app(textwrap.dedent(cls.PROGRAM))
        subprocess.run([sys.executable, '-X', 'tracemalloc=1', cls.app],
                       check=True, cwd=cls.source)
        cls.path = os.path.join(cls.source, 'kept.tracemalloc')
        cls.snapshot = tracemalloc.Snapshot.load(cls.path)
        cls.use = cls.snapshot.arena_use

    def test_use(self):
        use = self.use
        pinned = self.snapshot.pinned_arenas(1.0)
        self.assertEqual(use.count, len(pinned))
        self.assertEqual(use.size, sum(arena.size for arena in pinned))
        self.assertEqual(use.used, sum(arena.used for arena in pinned))
        self.assertEqual(sum(row.block_size * row.used_blocks
                             for row in use.classes), use.used)

    def test_lines(self):
        # The rule, block by block.
        kept = collections.Counter()
        sizes = collections.Counter()
        arenas = collections.defaultdict(set)
        for arena in self.snapshot.pinned_arenas(1.0):
            for block in arena.traced_blocks:
                frame = block.traceback[-1]
                key = frame.filename, frame.lineno
                kept[key] += (arena.size * (block.size + 15 & ~15)
                              / arena.used)
                sizes[key] += block.size
                arenas[key].add(arena.address)
        lines = self.use.lines
        self.assertEqual(len(lines), len(kept))
        for line in lines:
            key = line.filename, line.lineno
            self.assertAlmostEqual(line.kept, kept[key], delta=1)
            self.assertEqual(line.size, sizes[key])
            self.assertEqual(line.arenas, len(arenas[key]))
        self.assertEqual(lines[0][:2], (self.app, 4))
        self.assertGreater(lines[0].kept, .7 * self.use.size)
        self.assertLess(lines[0].size, .01 * self.use.size)

    def test_compaction(self):
        # A copy of what lives, in a process that makes nothing else, has room
        # in the arenas that are left.
        use = self.use
        self.assertGreater(use.given_back, .7 * use.size)
        self.assertEqual(use.given_back % (use.size // use.count), 0)
        self.assertGreaterEqual(use.size - use.given_back, use.used)
        self.assertLess(use.size - use.given_back,
                        use.used + 3 * (use.size // use.count))
        needed = 0
        for row in use.classes:
            room = (row.used_blocks + row.free_blocks) // row.pools
            needed += -(-row.used_blocks // room)
        self.assertEqual(use.pools - use.spare_pools, needed)

    def test_reports(self):
        output = self.ok('report', self.path)
        self.assertRegex(output, r'(?m)^Resident: [\d.]+ MiB: pymalloc')
        self.assertRegex(output, r'(?m)^Arenas: .* given back if these lay '
                                 r'side by side; kept by:\n'
                                 rf' *[\d.]+ MiB  {re.escape(self.app)}:4, ')
        for line in self.ok('report', self.path).splitlines():
            self.assertNotIn('None', line)
        self.assertNotIn('Arenas', self.ok('report', self.path, '--what',
                                           'peak'))
        output = self.ok('rss', self.path)
        self.assertRegex(output, rf'(?m)^ *[\d.]+ MiB  '
                                 rf'{re.escape(self.app)}:4, with')
        self.assertRegex(output, r'(?m)^ *[\d.]+ [KM]iB +[\d.]+%  \d+ B, in '
                                 r'[\d,]+ pools: [\d,]+ under 25%, ')
        document = json.loads(self.ok('report', self.path, '--format',
                                      'json'))
        arenas = document['snapshot']['arenas']
        self.assertEqual(arenas['given_back'], self.use.given_back)
        self.assertEqual(arenas['lines'][0], self.use.lines[0]._asdict())
        self.assertEqual([fill['pools'] for fill
                          in arenas['classes'][0]['fills']],
                         [fill.pools for fill in self.use.classes[0].fills])
        self.assertEqual(document['snapshot']['rss']['total'],
                         self.snapshot.rss.total)
        self.ok('report', self.path, '-o', 'page.html')
        with open('page.html') as file:
            page = file.read()
        self.assertIn('could be given back', page)
        self.assertIn("resident: pymalloc's arenas", page)

    def test_top(self):
        path = self.write('kept.py', self.PROGRAM.replace(
            "tracemalloc.take_snapshot().dump('kept.tracemalloc')",
            'import sys; print(flush=True); sys.stdin.read()'))
        program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc', '-X',
             'tracemalloc_control=c.sock', path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self.addCleanup(program.communicate)
        program.stdout.readline()
        self.assertRegex(self.ok('top', 'c.sock', '--once'),
                         r'(?m)^arenas +[\d.]+ MiB   used +[\d.]+ [KM]iB   '
                         rf'[\d.]+ MiB kept by {re.escape(path)}:4$')


@unittest.skipUnless(HAS_ARENAS, 'without the GIL there are no arenas')
@unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
class PoolsTest(CommandCase):
    """How full pools are: a program that keeps each eighth block of one size,
    each second of another, and all of a third; it says which, and pymalloc
    itself how many blocks and pools there are."""

    PROGRAM = """\
    import json, sys, tracemalloc

    def make(size):
        return [bytes(size - 33) for number in range(6000)]

    kept = {512: make(512), 496: make(496), 480: make(480)}
    del kept[496][1::2]
    kept[512] = kept[512][::8]
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    sys._debugmallocstats()
    print(json.dumps({size: list(map(id, blocks))
                      for size, blocks in kept.items()}))
    snapshot.dump('pools.tracemalloc')
    """
    POOL = 16384
    HEADER = 48

    @classmethod
    def setUpClass(cls):
        cls.app = cls.make_app(textwrap.dedent(cls.PROGRAM))
        done = subprocess.run([sys.executable, '-X', 'tracemalloc=1', cls.app],
                              check=True, cwd=cls.source, capture_output=True,
                              text=True)
        cls.stats = done.stderr
        cls.pools = {
            int(size): collections.Counter(address & -cls.POOL
                                           for address in addresses)
            for size, addresses in json.loads(done.stdout).items()}
        cls.path = os.path.join(cls.source, 'pools.tracemalloc')
        cls.use = tracemalloc.Snapshot.load(cls.path).arena_use
        cls.classes = {row.block_size: row for row in cls.use.classes}

    def test_as_pymalloc_says(self):
        rows = {int(size): [int(figure) for figure in figures]
                for size, *figures in re.findall(
                    r'(?m)^ *\d+ +(\d+) +(\d+) +(\d+) +(\d+)$', self.stats)}
        self.assertEqual({*rows}, {*self.classes})
        for size, (pools, used, free) in rows.items():
            row = self.classes[size]
            self.assertEqual(sum(fill.pools for fill in row.fills), row.pools)
            self.assertEqual(sum(fill.free_blocks for fill in row.fills),
                             row.free_blocks)
            self.assertEqual(row.fills[4].free_blocks, 0)
            if size >= 480:       # nobody else had some meanwhile
                self.assertEqual((row.pools, row.used_blocks,
                                  row.free_blocks), (pools, used, free))
            self.assertAlmostEqual(row.used_blocks, used, delta=2000)

    def test_fills(self):
        # Few blocks of these sizes are not the program's.
        for size, quarters in (512, 0), (496, 2), (480, 4):
            pools, row = self.pools[size], self.classes[size]
            room = (self.POOL - self.HEADER) // size
            fills = [0] * 5
            for count in pools.values():
                fills[4 * count // room] += 1
            self.assertGreater(fills[quarters], .95 * len(pools))
            for fill, count in zip(row.fills, fills):
                self.assertAlmostEqual(fill.pools, count, delta=8)

    def test_lines(self):
        line = self.use.lines[0]
        self.assertEqual((line.filename, line.lineno), (self.app, 4))
        # What the line keeps of pools that are sparse, which others may have
        # a block in.
        room = (self.POOL - self.HEADER) // 512
        sparse = [count for count in self.pools[512].values()
                  if 4 * count < room]
        self.assertAlmostEqual(line.sparse_pools, len(sparse), delta=2)
        self.assertAlmostEqual(line.sparse_kept, self.POOL * len(sparse),
                               delta=2 * self.POOL)

    def test_compaction(self):
        spare = sum(len(pools) + -sum(pools.values())
                    // ((self.POOL - self.HEADER) // size)
                    for size, pools in self.pools.items())
        self.assertGreaterEqual(self.use.spare_pools, spare - 3)
        self.assertLess(self.use.spare_pools, spare + 100)

    def test_reports(self):
        said = (rf'{re.escape(self.app)}:4, with [\d.]+ MiB in \d+ arenas; '
                r'[\d,]+ pools less than a quarter full, [\d.]+ MiB\n')
        self.assertRegex(self.ok('rss', self.path), said)
        self.ok('report', self.path, '-o', 'page.html')
        with open('page.html') as file:
            self.assertRegex(file.read(), 'pools less than a quarter full')


if __name__ == '__main__':
    unittest.main()
