"""Files of snapshots: what is written comes back, what is damaged does not."""

import errno
import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
import zlib
from unittest import mock

import tracemalloc
from test.test_pytracemalloc.helpers import DEBUG_HOOKS
from test.test_pytracemalloc.load_memory import check_memory, counts_memory
from test.test_pytracemalloc.support import RAW
from tracemalloc import Snapshot

try:
    import _interpreters
except ImportError:
    _interpreters = None


class FileCase(unittest.TestCase):

    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'x.tracemalloc')

    def load(self, image):
        with open(self.path, 'wb') as file:
            file.write(image)
        return Snapshot.load(self.path)


class RoundTripTests(FileCase):

    def check(self, snapshot, format):
        snapshot.dump(self.path, format=format)
        again = Snapshot.load(self.path)
        self.assertEqual(again.traces, snapshot.traces)
        for name in ('traceback_limit', 'timestamp', 'pid', 'metadata',
                     'traced_memory', 'freelists'):
            self.assertEqual(getattr(again, name), getattr(snapshot, name))
        self.assertEqual(os.listdir(self.directory), ['x.tracemalloc'])
        return again

    def paths(self, snapshot):
        """Whole paths with what is known of their ends, in one order."""
        paths = []
        for caller, *rest in snapshot.call_tree().nodes:
            paths.append((paths[caller] if caller >= 0 else ()) + tuple(rest))
        return sorted(paths)

    def test_given_traces(self):
        snapshot = Snapshot(RAW, 2)
        snapshot.metadata['note'] = {'é': [1, 2.5, None]}
        for format in ('native', 'pickle'):
            with self.subTest(format=format):
                again = self.check(snapshot, format)
                self.assertEqual(again.traces._traces, RAW)

    def test_live(self):
        for nframe in (1, 3, 25):
            tracemalloc.start(nframe)
            self.addCleanup(tracemalloc.stop)
            data = [{i: (i,)} for i in range(5000)]
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
            del data
            again = self.check(snapshot, 'native')
            for key in ('lineno', 'type', 'function', 'traceback', 'domain'):
                self.assertEqual(
                    [(s.key, s.size, s.count, s.total_size, s.peak_size)
                     for s in again.statistics(key)],
                    [(s.key, s.size, s.count, s.total_size, s.peak_size)
                     for s in snapshot.statistics(key)])
            self.assertEqual(self.paths(again), self.paths(snapshot))
            self.assertEqual(again.pinned_arenas(1), snapshot.pinned_arenas(1))
            self.check(snapshot, 'pickle')

    @unittest.skipIf(_interpreters is None, "needs _interpreters")
    def test_interpreter_that_ended(self):
        """What it left behind has traces."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        interp = _interpreters.create('isolated')
        _interpreters.run_string(
            interp, "kept = [[i] for i in range(10_000)]; kept.append(kept)")
        _interpreters.destroy(interp)
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        count = sum(s.count for s in snapshot.statistics('lineno'))
        self.assertEqual(len(snapshot.traces), count)
        again = self.check(snapshot, 'native')
        self.assertEqual(again.statistics('lineno'),
                         snapshot.statistics('lineno'))

    def test_without_traces(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        data = [(i,) for i in range(1000)]
        snapshot = tracemalloc.take_snapshot(traces=False)
        del data
        again = self.check(snapshot, 'native')
        self.assertEqual(again.statistics('lineno'),
                         snapshot.statistics('lineno'))
        with self.assertRaisesRegex(ValueError, "has no traces"):
            snapshot.dump(self.path, format='pickle')

    def test_attributes(self):
        snapshot = Snapshot(RAW, 2)
        snapshot.test_attr = {'a': [1, 'b']}
        self.assertEqual(self.check(snapshot, 'native').test_attr,
                         {'a': [1, 'b']})
        snapshot.test_attr = object
        with self.assertRaisesRegex(TypeError, "'test_attr'.*'pickle'"):
            snapshot.dump(self.path)
        del snapshot.test_attr
        snapshot.metadata['when'] = snapshot.timestamp
        with self.assertRaisesRegex(TypeError, "metadata 'when'.*'pickle'"):
            snapshot.dump(self.path)
        with self.assertRaisesRegex(ValueError, "'xml'"):
            snapshot.dump(self.path, format='xml')

    def test_pickle_is_stock(self):
        Snapshot(RAW, 2).dump(self.path, format='pickle')
        with open(self.path, 'rb') as file:
            self.assertNotIn(b'_tracemalloc', file.read())

    def test_what_is_replaced(self):
        snapshot = Snapshot(RAW, 2)
        snapshot.dump(self.path)
        os.chmod(self.path, 0o640)
        snapshot.dump(self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        for target in self.path, '/dev/null', 'nowhere':
            link = os.path.join(self.directory, 'link')
            os.symlink(target, link)
            snapshot.dump(link)
            self.assertFalse(os.path.islink(link))
            self.assertEqual(Snapshot.load(link).traces, snapshot.traces)
            os.unlink(link)
        snapshot.dump('/dev/null')
        self.assertFalse(os.path.isfile('/dev/null'))

    def test_pipe(self):
        snapshot = Snapshot([(0, size, (('a.py', 1),), 1)
                             for size in range(20000)], 1)
        for format in 'native', 'pickle':
            with subprocess.Popen(['cat'], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as cat:
                writer = threading.Thread(
                    target=self.dump_and_close,
                    args=(snapshot, cat.stdin, format))
                writer.start()
                data = cat.stdout.read()
                writer.join()
            self.assertEqual(self.load(data).traces, snapshot.traces)

    def dump_and_close(self, snapshot, pipe, format):
        with pipe:
            snapshot.dump(f'/dev/fd/{pipe.fileno()}', format)

    def test_errors_name_the_file(self):
        missing = os.path.join(self.directory, 'missing', 'x')
        for format in 'native', 'pickle':
            with self.assertRaises(FileNotFoundError) as caught:
                Snapshot(RAW, 2).dump(missing, format)
            self.assertEqual(caught.exception.filename, missing)

    def test_disk_full_keeps_the_old_file(self):
        Snapshot(RAW, 2).dump(self.path)
        with open(self.path, 'rb') as file:
            old = file.read()
        many = Snapshot(RAW * 100_000, 2)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with self.assertRaises(OSError) as caught:
                many.dump(self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        self.assertEqual(caught.exception.errno, errno.EFBIG)
        self.assertEqual(caught.exception.filename, self.path)
        with open(self.path, 'rb') as file:
            self.assertEqual(file.read(), old)
        self.assertEqual(os.listdir(self.directory), ['x.tracemalloc'])

    def test_killed_while_writing_keeps_the_old_file(self):
        Snapshot(RAW, 2).dump(self.path)
        with open(self.path, 'rb') as file:
            old = file.read()
        # The kernel kills the child at the first byte past the limit.
        code = textwrap.dedent("""
            import resource, signal, sys, tracemalloc
            many = tracemalloc.Snapshot(%r * 100_000, 2)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            many.dump(sys.argv[1])
        """ % RAW)
        child = subprocess.run([sys.executable, '-c', code, self.path],
                               stderr=subprocess.PIPE)
        self.assertEqual(child.returncode, -signal.SIGXFSZ, child.stderr)
        self.assertEqual(os.listdir(self.directory), ['x.tracemalloc'])
        with open(self.path, 'rb') as file:
            self.assertEqual(file.read(), old)


class LayoutTests(FileCase):
    """The file is as the documentation says."""

    def sections(self):
        Snapshot(RAW, 2).dump(self.path)
        with open(self.path, 'rb') as file:
            image = file.read()
        self.assertEqual(image[:16], b'\x89TRM\r\n\x1a\n' b'\x08' + bytes(7))
        offset = 16
        while offset < len(image):
            tag, crc, length = struct.unpack_from('<4sIQ', image, offset)
            payload = image[offset + 16:offset + 16 + length]
            self.assertEqual(zlib.crc32(payload), crc)
            yield tag, payload
            offset += 16 + length
        self.assertEqual(payload, struct.pack('<Q', len(image)))

    def test_layout(self):
        found = dict(self.sections())
        self.assertEqual(list(found), [b'META', b'TEXT', b'LOCS', b'TREE',
                                       b'NEXT', b'KIND', b'ARNA', b'POOL',
                                       b'BLKS', b'HEAP', b'HIST', b'NATV',
                                       b'DONE'])
        self.assertEqual(json.loads(found[b'META'])['traceback_limit'], 2)
        # b.py:4; a.py:2, two lines before; the last one, two more before.
        self.assertEqual(found[b'LOCS'], bytes([
            3, 0, 8, 2, 1, 0, 0, 0, 0,
            0b1110, 3, 3, 0, 0b1110, 3, 4, 0]))
        # Of 2 frames; called by it, at the next location, 2 blocks of 20
        # bytes; two steps up, two locations after the first one, of unknown
        # frames, 1 block of 7 bytes.
        self.assertEqual(found[b'TREE'], bytes([
            3, 0b0100, 0, 2, 0b1000, 2, 2 << 1 | 1, 20,
            0b1110, 4, 0, 1 << 1 | 1, 7]))
        # has_blocks, 3 blocks: node and size, then all as before, then node,
        # size and kind.
        self.assertEqual(found[b'BLKS'], bytes([
            1, 3, 0b100, 2, 10, 0b111, 0b000, 2, 7, 1]))

    def test_likely_nodes(self):
        """Nodes at one line are told by the first of them."""
        def traces(n):
            return [(0, 48, (('a.py', 2), ('b.py', i + 1)), 2)
                    for i in range(n) for _ in range(3)]
        sizes = []
        for n in (1000, 2000):
            Snapshot(traces(n), 2).dump(self.path)
            self.assertEqual(Snapshot.load(self.path).traces._traces,
                             traces(n))
            sizes.append(os.path.getsize(self.path))
        # A location of 3 bytes, two nodes of 3, blocks of 2, 1 and 1.
        self.assertEqual(sizes[1] - sizes[0], 13 * 1000)

    @unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
    def test_size(self):
        """At most 12 bytes for a block, on whatever path it was made."""
        def at_one_place(keep):
            for i in range(16_384):
                keep((i,))

        def on_own_paths(keep, depth=14):
            if depth == 0:
                keep([depth, keep])
                return
            on_own_paths(keep, depth - 1)
            on_own_paths(keep, depth - 1)

        source = ''.join(
            'def part%d(keep, x=None):\n' % i + '    keep((x,))\n' * 100
            for i in range(160))
        scope = {}
        exec(compile(source, 'many_lines.py', 'exec'), scope)

        def at_own_lines(keep):
            for i in range(160):
                scope['part%d' % i](keep)

        for make in at_one_place, on_own_paths, at_own_lines:
            with self.subTest(make=make.__name__):
                blocks = []
                tracemalloc.start(25)
                self.addCleanup(tracemalloc.stop)
                make(blocks.append)
                snapshot = tracemalloc.take_snapshot()
                tracemalloc.stop()
                self.assertGreater(len(snapshot.traces), 16_000)
                snapshot.dump(self.path)
                self.assertLess(os.path.getsize(self.path),
                                12 * len(snapshot.traces))

    def test_reordered_nodes(self):
        """Nodes are written in another order than they are made in."""
        traces = [(0, size, frames, None) for size, frames in (
            (1, (('a', 1), ('x', 1))), (2, (('a', 1), ('y', 1))),
            (3, (('b', 1), ('x', 1))), (4, (('c', 1), ('b', 1), ('y', 1))),
            (5, (('a', 2), ('a', 1), ('x', 1))), (6, (('x', 1),)),
            (7, (('z', 1),)), (8, (('d', 1), ('c', 1), ('b', 1), ('y', 1))))]
        Snapshot(traces, 9).dump(self.path)
        again = Snapshot.load(self.path)
        self.assertEqual(again.traces._traces, traces)
        again.dump(self.path)
        self.assertEqual(Snapshot.load(self.path).traces._traces, traces)


class DamageTests(FileCase):

    def image(self):
        snapshot = Snapshot(RAW, 2)
        snapshot.dump(self.path)
        with open(self.path, 'rb') as file:
            return file.read()

    def rejects(self, image, pattern=r"at offset \d+"):
        with self.assertRaisesRegex(ValueError, pattern):
            self.load(image)

    def test_truncated(self):
        image = self.image()
        for size in range(len(image)):
            self.rejects(image[:size])
        self.rejects(image + b'x')

    def test_bit_flips(self):
        image = self.image()
        for i in range(len(image)):
            for bit in range(8):
                damaged = bytearray(image)
                damaged[i] ^= 1 << bit
                self.rejects(damaged)

    def replace(self, tag, payload):
        """The file with another payload of a section, checksum right."""
        image = self.image()
        at = image.index(tag)
        length, = struct.unpack_from('<Q', image, at + 8)
        end = at + 16 + length
        image = (image[:at] + tag
                 + struct.pack('<IQ', zlib.crc32(payload), len(payload))
                 + payload + image[end:])
        total = struct.pack('<Q', len(image))
        return image[:-20] + struct.pack('<I', zlib.crc32(total))[0:4] \
            + image[-16:-8] + total

    def test_hostile_records(self):
        huge = b'\xff\xff\xff\xff\xff\xff\xff\xff\xff\1'
        for tag, payload, reason in (
            (b'TEXT', huge, "more records than"),
            (b'TEXT', b'\1\5abc', "do not fill"),
            (b'TEXT', b'\1\2\xff\xff', "bad UTF-8"),
            (b'TEXT', b'\1\2\xc0\x80', "bad UTF-8"),
            (b'LOCS', huge, "more records than"),
            (b'TEXT', b'\0', "locations without texts"),
            (b'LOCS', b'\1\0\0\x70\0\0\0\0\0', "no such text"),
            (b'LOCS', b'\1\x0d\0\x70\0', "no such text"),
            (b'LOCS', b'\1\x1f\3', "too large"),
            (b'LOCS', b'\2\x1f\x7c\x1f\xfe' + huge[1:], "too large"),
            (b'LOCS', b'\1\x1f' + huge, "too large"),
            (b'LOCS', b'\1\x0f\0' + huge, "too large"),
            (b'LOCS', b'\1\x20\0', "must be 0"),
            (b'TREE', huge, "more records than"),
            (b'TREE', b'\1\1\0', "no caller so far up"),
            (b'TREE', b'\1\3\0\0', "no caller so far up"),
            (b'TREE', b'\1\3\x70\0', "no caller so far up"),
            (b'TREE', b'\2\0\0\2\0', "no caller so far up"),
            (b'TREE', b'\1\x80\0', "must be 0"),
            (b'TREE', b'\1\0\x70\0\0', "no such location"),
            (b'TREE', b'\1\0\1', "no such location"),
            (b'TREE', b'\1\4\0', "inside a number"),
            (b'TREE', b'\1\0\0', "no such node|add up to more"),
            (b'KIND', b'\1\0\4\0', "no such kind of block"),
            (b'KIND', b'\0', "without tree or kinds"),
            (b'ARNA', b'\1\0\1\2\0', "more than its size"),
            (b'POOL', b'\x20' + huge, "more records than"),
            (b'POOL', huge + b'\0', "pool too large"),
            (b'POOL', b'\x20\1\2\x10\2\3', "more than its blocks"),
            (b'POOL', b'\x20\1\2\x10\2\0', "or empty"),
            (b'POOL', b'\x20\1\2\x10\0\0', "or empty"),
            (b'POOL', b'\x20\1\2\x10\3\1', "larger than pools are"),
            (b'POOL', b'\0\1\2\0\1\1', "no such address"),
            (b'POOL', b'\x20\1\1\x10\2\1', "no such address"),
            (b'POOL', b'\x20\1\2\xff\xff\xff\7\1\1', "block of a pool"),
            (b'NATV', b'\2', "neither 0 nor 1"),
            (b'NATV', b'\1' + huge, "more records than"),
            (b'NATV', b'\1\1\1\0\0', "inside a path"),
            (b'NATV', b'\1\1\1\0\x21a' + bytes(33), "build ID too long"),
            (b'NATV', b'\1\1\1\0\4abc', "inside a record"),
            (b'NATV', b'\1\1\1\0\0\xff', "bad UTF-8"),
            (b'NATV', b'\1\1\1\0\0a\1\1\0', "no such module"),
            (b'NATV', b'\1\1\1\0\0a\1\0\0\1\1\1\0', "of no C stack"),
            (b'NATV', b'\1\1\1\0\0a\1\0\0\1\2\0\2\0\0',
             "more frames than"),
            (b'NATV', b'\1\1\1\0\0a\1\0\0\1\2\0\1\1', "no such place"),
            (b'NATV', b'\1\1\1\0\0a\1\0\0\1\2\0\0', "fewer frames than"),
            (b'NATV', b'\1\0\0\0\0\0', "longer than its records"),
            (b'BLKS', b'\2\0', "neither 0 nor 1"),
            (b'BLKS', b'\1' + huge, "more records than"),
            (b'BLKS', b'\1\1\0\x70\1\0', "no such node"),
            (b'BLKS', b'\1\1\0\0\1\x70', "no such kind"),
            (b'BLKS', b'\1\1\7', "add up to more"),
            (b'ARNA', b'\0\0', "longer than its records"),
            (b'BLKS', b'\1\1\0' + b'\xff' * 12, "number too large"),
            (b'META', b'{}', "metadata"),
            (b'META', b'[' * 100_000, "metadata"),
            (b'META', b'\xff', "bad UTF-8"),
        ):
            with self.subTest(tag=tag, payload=payload[:20]):
                self.rejects(self.replace(tag, payload), reason)

    @counts_memory
    def test_memory_is_bounded_by_the_size(self):
        def number(n):
            return bytes([n >> 7 * i & 127 | (i < 4) << 7 for i in range(5)])
        n = 1_000_000
        for tag, payload in (
            # Nodes and blocks of the least size that say the most.
            (b'TREE', number(n) + b'\x08\0\3\1' + bytes(2 * n - 2)),
            (b'BLKS', b'\1' + number(n) + b'\7' * n),
            (b'LOCS', number(n) + b'\0\0\0\0\0\0\0\0' + b'\x1f\0' * n),
            (b'TEXT', number(n) + bytes(n)),
        ):
            image = self.replace(tag, payload)
            with open(self.path, 'wb') as file:
                file.write(image)
            check_memory(self, self.path, 51 * len(image) + 4_000_000)

    def test_metadata_cannot_replace_methods(self):
        Snapshot(RAW, 2).dump(self.path)
        with open(self.path, 'rb') as file:
            image = file.read()
        length, = struct.unpack_from('<Q', image, 24)
        meta = json.loads(image[32:32 + length])
        meta['attributes'] = {'statistics': 1}
        self.rejects(self.replace(b'META', json.dumps(meta).encode()),
                     "'statistics' cannot be set")

    def test_version(self):
        image = bytearray(self.image())
        image[8] += 1
        self.rejects(image, r"of a newer version of the format than 8 \(read "
                            r"it with .* that wrote it, .*\) at offset 8")
        image[8] = 2
        self.rejects(image, r"of an older version of the format than 3 \(read "
                            r"it with .* that wrote it\) at offset 8")

    def test_other_files(self):
        for image in (b'', b'x', b'hello world', b'\x89PNG\r\n\x1a\n',
                      os.urandom(1000)):
            self.rejects(image, "not a snapshot file")


class PickleTests(FileCase):

    def rejects(self, image, pattern="not a snapshot file"):
        with self.assertRaisesRegex(ValueError, pattern):
            self.load(image)

    def test_code_is_not_executed(self):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (target,)
        target = os.path.join(self.directory, 'evil')
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.rejects(pickle.dumps(Evil(), protocol))
        snapshot = Snapshot(RAW, 2)
        snapshot.evil = Evil()
        self.rejects(pickle.dumps(snapshot), "mkdir")
        self.assertFalse(os.path.exists(target))

    def test_huge_numbers(self):
        for opcodes in (b'\x80\4r\xff\xff\xff\x7f.', b'\x80\4Nr\0\0\0\x40.',
                        b'\x80\4\x8d' + b'\xff' * 8 + b'.',
                        b'\x80\4B\xff\xff\xff\x7f.',
                        b'\x80\4\x95' + b'\xff' * 7 + b'\0.', b'\x80\4', b'N'):
            self.rejects(opcodes, "at offset")

    def test_damaged_pickle(self):
        Snapshot(RAW, 2).dump(self.path, format='pickle')
        with open(self.path, 'rb') as file:
            image = file.read()
        for size in range(len(image)):
            self.rejects(image[:size])
        for i in range(len(image)):
            damaged = bytearray(image)
            damaged[i] ^= 0x15
            try:
                self.load(damaged)
            except ValueError:
                pass        # Anything else is an error of this test.

    def test_other_objects(self):
        for value in (None, 5, [], {}, {'format_version': 1}, RAW):
            self.rejects(pickle.dumps(value))

    def test_small_object_with_a_long_text(self):
        value = ()
        for i in range(60):
            value = (value, value)
        snapshot = Snapshot(RAW, 2)
        state = {'_traces': [(0, 1, value, 1)]}
        with mock.patch.object(tracemalloc._Traces, '__getstate__',
                               lambda self: state):
            data = pickle.dumps(snapshot)
        self.rejects(data, "frame must be")

    def test_version_091_damaged(self):
        for stats in (5, {'a': 5}, {'a': {1: 5}}, {'a': {'x': (1, 2)}},
                      {5: {1: (1, 2)}}, {'a': {1: (1, 2, 3)}},
                      {'a': {1: (-1, 'x')}}):
            self.rejects(pickle.dumps({'format_version': 1, 'stats': stats},
                                      4))

    def test_stock_pickle(self):
        """A pickle as the standard library of 3.13 writes it."""
        stream = io.BytesIO()
        shell = type('Snapshot', (), {'__module__': 'tracemalloc'})
        inner = type('_Traces', (), {'__module__': 'tracemalloc'})
        snapshot, traces = shell(), inner()
        traces._traces = RAW
        snapshot.traces, snapshot.traceback_limit = traces, 2
        snapshot.extra = {1, 2}
        with mock.patch.object(tracemalloc, 'Snapshot', shell), \
             mock.patch.object(tracemalloc, '_Traces', inner):
            pickle.dump(snapshot, stream, pickle.HIGHEST_PROTOCOL)
        loaded = self.load(stream.getvalue())
        self.assertEqual(loaded.traces._traces, RAW)
        self.assertEqual(loaded.extra, {1, 2})
        self.assertAlmostEqual(loaded.timestamp.timestamp(),
                               os.stat(self.path).st_mtime, 3)


if __name__ == "__main__":
    unittest.main()
