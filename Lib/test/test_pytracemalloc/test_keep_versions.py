"""Kept call trees of earlier versions, and with native memory."""
import os
import struct
import tracemalloc
import unittest

from _tracemalloc_snapshot import _read_kept
from pytracemalloc import kept
from test.test_pytracemalloc.helpers import SANITIZED
from test.test_pytracemalloc.kept_programs import sums_of
from test.test_pytracemalloc.test_keep import WORK, KeepCase

# Where things are in the file, see pycore_tracer_kept.h.
VERSION_AT, SIZES_AT, NEXTENTS_AT = 12, 16, 28
DIRECTORY, UNIT, RARES = 8 << 10, 64 << 10, 3
NEW_RARE, OLD_RARE = 72, 104


def with_old_rares(image):
    """The file as version 3 was: native memory among the rare counters."""
    image = bytearray(image)
    nextents, = struct.unpack_from('=I', image, NEXTENTS_AT)
    extents = [struct.unpack_from('=4I', image, DIRECTORY + 16 * i)
               for i in range(nextents)]
    rares = b''.join(image[first * UNIT:(first + units) * UNIT]
                     for array, first, units, _ in extents if array == RARES)
    old = bytearray()
    for at in range(0, len(rares) - NEW_RARE + 1, NEW_RARE):
        rare = rares[at:at + NEW_RARE]
        native, = struct.unpack_from('=I', rare, 52)
        assert native == 0
        old += rare[:32] + bytes(32) + rare[32:]
    for i, (array, first, units, _) in enumerate(extents):
        if array == RARES:
            struct.pack_into('=4I', image, DIRECTORY + 16 * i, RARES, first,
                             0, 0)
    image += bytes(-len(image) % UNIT)
    struct.pack_into('=4I', image, DIRECTORY + 16 * nextents, RARES,
                     len(image) // UNIT, -(-len(old) // UNIT), 0)
    struct.pack_into('=I', image, NEXTENTS_AT, nextents + 1)
    image += old + bytes(-len(old) % UNIT)
    sizes, = struct.unpack_from('=I', image, SIZES_AT)
    struct.pack_into('=II', image, VERSION_AT, 3,
                     sizes + (OLD_RARE - NEW_RARE << 8))
    return image


class OlderTests(KeepCase):
    """Files of earlier versions."""

    def load(self, image):
        with open('old.kept', 'wb') as file:
            file.write(image)
        return sums_of(kept.load('old.kept')[0])

    def test_versions(self):
        self.run_program(f'{WORK}raw = bytearray(1_000_003)\nos._exit(0)')
        with open('tree.kept', 'rb') as file:
            image = bytearray(file.read())
        known = self.load(image)
        self.assertGreater(max(sums[0] for sums in known.values()), 1_000_000)
        version, = struct.unpack_from('=I', image, VERSION_AT)
        self.assertEqual(version, 4)
        struct.pack_into('=I', image, VERSION_AT, 2)
        self.assertEqual(self.load(image), known)
        old = with_old_rares(image)
        self.assertEqual(self.load(old), known)
        # The same with native memory in each of the rare counters.
        nextents, = struct.unpack_from('=I', old, NEXTENTS_AT)
        _, first, _, _ = struct.unpack_from(
            '=4I', old, DIRECTORY + 16 * (nextents - 1))
        for number in range(1, 100):
            struct.pack_into('=2Q', old,
                             first * UNIT + number * OLD_RARE + 32, 1 << 40, 1)
        more = self.load(old)
        changed = [key for key in more if more[key] != known.get(key)]
        self.assertGreater(len(changed), 3)
        for key in changed:
            size = more[key][0] - known.get(key, (0,))[0]
            self.assertEqual(size % (1 << 40), 0)
            self.assertGreater(size, 0)
        for version in 1, 5:
            struct.pack_into('=I', image, VERSION_AT, version)
            with self.assertRaisesRegex(ValueError, 'of another build'):
                _read_kept(image)


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class NativeTests(KeepCase):

    def test_native_memory(self):
        """It is kept, in the child of a fork and while nodes move as well."""
        result = self.run_program('''
            import ctypes, os, _tracemalloc, tracemalloc
            libc = ctypes.CDLL(None)
            libc.malloc.restype = ctypes.c_void_p
            libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_void_p]
            def take(n):
                if n:
                    return take(n - 1)
                return libc.malloc(1_000_003)
            for n in range(30):
                held = take(n)
                libc.free(take(n + 100))
            _tracemalloc._prune_soon()
            exec('[object() for i in range(3)]')
            tracemalloc.take_snapshot(traces=False).dump('dumped')
            child = os.fork()
            held = take(99)
            if child:
                os.waitpid(child, 0)
            os._exit(0)
            ''', '-X', 'tracemalloc_native', file='tree%p.kept')
        self.assertEqual(result.stderr, '')
        files = [name for name in os.listdir() if name.endswith('.kept')]
        self.assertEqual(len(files), 2)
        expected = tracemalloc.Snapshot.load('dumped')
        def taken(snapshot):
            """Blocks at the line, which has an integer as well."""
            return max(stat.size for stat
                       in snapshot.statistics('lineno')) // 1_000_003
        self.assertEqual(taken(expected), 30)
        for name in files:
            self.assertEqual(taken(kept.load(name)[0]), 31, name)


if __name__ == '__main__':
    unittest.main()
