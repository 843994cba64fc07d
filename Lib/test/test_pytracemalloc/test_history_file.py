"""Memory over time in snapshots and their files."""

import struct
import tracemalloc
import unittest
from tracemalloc import Snapshot

from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.history_case import MOST, HistoryCase, run
from test.test_pytracemalloc.snapshot_sections import join, sections
from test.test_pytracemalloc.test_snapshot_file import FileCase


class SnapshotTests(HistoryCase):

    def test_moments_of_snapshots(self):
        with Tracing():
            self.start()
            snapshots = []
            keep = []
            for _ in range(3):
                keep.append(bytearray(1_000_000))
                snapshots.append(tracemalloc.take_snapshot())
                self.new_notes()
            snapshots.append(tracemalloc.take_snapshot(traces=False))
        for number, snapshot in enumerate(snapshots, 1):
            marked = [note for note in snapshot.history if note.snapshots]
            self.assertEqual(len(marked), number)
            self.assertEqual(marked[-1], snapshot.history[-1])
            for note, taken in zip(marked, snapshots):
                self.assertEqual((note.traced, note.peak),
                                 taken.traced_memory)
                self.assertAlmostEqual(note.time, taken.timestamp.timestamp(),
                                       delta=1)
                self.assertEqual(note.blocks, sum(
                    stat.count for stat in taken.statistics('filename')))
            earlier = snapshots[max(0, number - 2)].history
            self.assertEqual(
                [note[1:] for note in snapshot.history[:len(earlier)]][:5],
                [note[1:] for note in earlier][:5])

    def test_other_snapshots_have_it(self):
        with Tracing():
            self.start()
            self.new_notes()
            snapshot = tracemalloc.take_snapshot()
        self.assertGreater(len(snapshot.history), 3)
        for other in (snapshot.filter_traces([]), snapshot.fold_imports(),
                      snapshot.my_code()):
            self.assertEqual(other.history, snapshot.history)

    def test_nobody_asked(self):
        done = run('''
            import tracemalloc
            tracemalloc.start()
            print(tracemalloc.take_snapshot().history,
                  tracemalloc.Snapshot([], 1).history)
            ''')
        self.assertEqual(done.stdout, '[] []\n', done.stderr)


class FileTests(FileCase):

    def snapshot(self):
        with Tracing():
            tracemalloc.start_history(.001)
            self.addCleanup(tracemalloc.stop_history)
            for size in range(1, 40):
                keep = bytearray(size * 10_000)
                tracemalloc.get_history()
            del keep
            return tracemalloc.take_snapshot()

    def test_round_trip(self):
        snapshot = self.snapshot()
        snapshot.dump(self.path)
        again = Snapshot.load(self.path)
        self.assertEqual(again.history, snapshot.history)
        self.assertGreaterEqual(len(again.history), 40)
        again.filter_traces([]).dump(self.path)
        self.assertEqual(Snapshot.load(self.path).history, snapshot.history)

    def test_pickles_have_none(self):
        snapshot = self.snapshot()
        snapshot.dump(self.path, format='pickle')
        self.assertEqual(Snapshot.load(self.path).history, [])

    def test_size(self):
        with Tracing():
            tracemalloc.start_history(1000)
            self.addCleanup(tracemalloc.stop_history)
            from _tracemalloc import _get_history
            for _ in range(3000):
                _get_history()
            snapshot = tracemalloc.take_snapshot()
        snapshot.dump(self.path)
        with open(self.path, 'rb') as file:
            found = dict(sections(file.read()))
        self.assertLess(len(found[b'HIST']), 25 * MOST)

    def rejects(self, payload, reason):
        Snapshot([], 1).dump(self.path)
        with open(self.path, 'rb') as file:
            found = dict(sections(file.read()))
        found[b'HIST'] = payload
        with open(self.path, 'wb') as file:
            file.write(join(found.items()))
        with self.assertRaisesRegex(ValueError, reason):
            Snapshot.load(self.path)

    def test_hostile_sections(self):
        zero = bytes(11)
        huge = b'\xff' * 9 + b'\1'
        for payload, reason in (
            (b'', 'ends inside a number'),
            (b'\1', 'more records than the section can hold'),
            (b'\1' + zero[:-1], 'more records than'),
            (b'\1' + zero[:-1] + b'\x80', 'ends inside a number'),
            (b'\1' + zero + b'\0', 'longer than its records'),
            (b'\x81\x10' + zero * 2049, 'too many notes'),
            (b'\1' + huge + zero, 'number of a note too large'),
            (b'\2' + b'\xff' * 8 + b'\x7f' + zero[1:] + b'\1' + zero[1:],
             'number of a note too large'),
            (b'\1\0\1' + zero, 'number of a note too large'),
            (b'\1\0\0' + huge + zero, 'number of a note too large'),
            (b'\1\0\0\0\1' + zero, 'number of a note too large'),
            (b'\1' + bytes(4) + b'\1' + zero, 'number of a note too large'),
            (b'\1' + bytes(6) + b'\1' + zero, 'number of a note too large'),
            (b'\1' + bytes(7) + b'\1' + zero, 'number of a note too large'),
            (b'\1' + bytes(7) + b'\x80\x80\x80\x80\x20' + zero,
             'number of a note too large'),
            (b'\1' + bytes(10) + b'\x80\x80\x80\x80\x10',
             'number of a note too large'),
        ):
            with self.subTest(payload=payload[:30]):
                self.rejects(payload, reason)

    def test_history_that_is_none(self):
        note = struct.Struct('=7q4I')
        for wrong in (b'x', note.pack(-1, *bytes(10)), bytes(72) * 2049,
                      note.pack(1, 5, 4, *bytes(8)),
                      note.pack(1, *bytes(10)) + bytes(72)):
            snapshot = Snapshot([], 1)
            snapshot._history = wrong
            with self.assertRaisesRegex(ValueError, 'no notes of a history'):
                snapshot.dump(self.path)


if __name__ == '__main__':
    unittest.main()
