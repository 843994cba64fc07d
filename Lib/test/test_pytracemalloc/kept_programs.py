"""Programs that keep their call tree in a file and are killed, and what the
file must say then.

    python -m test.test_pytracemalloc.kept_programs 1000 [SEED]

kills so many at random moments.
"""
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc

from pytracemalloc import kept

# Allocates at one line, and says in a file that is shared what it has done: as
# many blocks are live as it says, or one more.
COUNTED = '''
import _tracemalloc, mmap, os, random, sys, threading

def other(seed):
    rng = random.Random(seed)
    held = []
    while True:
        held.append([bytearray(rng.randrange(2000)) for _ in range(9)])
        if len(held) > 200:
            held.clear()

# A path for each number; no deeper, for frames take memory as well.
def deep(n, f):
    if n == 1:
        return f()
    if n % 2:
        return deep(n >> 1, f)
    return deep(n >> 1, f)

# One block and no other: a call would have a tuple for its arguments.
def make(size):
    return zero * size                                 # the line

zero = bytes(1)

def count(notes, rng, kind):
    live = []
    blocks = size = 0
    while True:
        if blocks > 300 and rng.random() < 0.01:
            # Nothing is counted while the notes say so.
            notes[0] = -1
            live.clear()
            notes[1] = size = 0
            notes[0] = blocks = 0
        n = rng.randrange(2, 3000)
        live.append(deep(rng.randrange(1, 256), lambda: make(n)))
        blocks += 1
        size += n + EXTRA
        notes[0] = blocks
        notes[1] = size
        if kind == 'prune' and rng.random() < 0.05:
            _tracemalloc._prune_soon()
        if kind == 'fork' and rng.random() < 0.02:
            child = os.fork()
            if not child:
                others = [make(n + 2) for _ in range(rng.randrange(3000))]
                os._exit(0)
            os.waitpid(child, 0)

EXTRA = bytes(0).__sizeof__()
# Each number is written at once: struct.pack_into() clears it before.
notes = memoryview(mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE)).cast('q')
kind, seed = sys.argv[2], int(sys.argv[3])
if kind == 'threads':
    for i in range(3):
        threading.Thread(target=other, args=(seed + i,), daemon=True).start()
rng = random.Random(seed)
print('ready', flush=True)
count(notes, rng, kind)
'''
LINE = 1 + COUNTED.split('\n').index(next(
    line for line in COUNTED.split('\n') if '# the line' in line))
KINDS = 'plain', 'threads', 'fork', 'prune'


def sums_of(snapshot):
    """Return {traceback: all that is known of it}."""
    sums = {}
    for order in 'size', 'total_size', 'peak_size', 'garbage_size':
        for stat in snapshot.statistics('traceback', order=order):
            key = tuple((frame.filename, frame.lineno)
                        for frame in stat.traceback)
            sums[key] = (stat.size, stat.count, stat.total_size,
                         stat.total_count, stat.peak_size, stat.peak_count,
                         stat.garbage_size, stat.garbage_count)
    return sums


def check_sums(snapshot):
    """Raise AssertionError if sums are not as those of whole blocks."""
    for key, sums in sums_of(snapshot).items():
        size, count, total, totals, peak, peaks, *_ = sums
        assert 0 <= size <= total and 0 <= count <= totals, (key, sums)
        assert peak <= total and peaks <= totals, (key, sums)


def line_of(snapshot, path, line):
    """Return the (blocks, bytes) that are live at a line."""
    stats = [stat for stat in snapshot.statistics('lineno')
             if (stat.traceback[0].filename, stat.traceback[0].lineno)
             == (path, line)]
    return sum(stat.count for stat in stats), sum(stat.size for stat in stats)


def kill_one(folder, seed):
    """Kill a program at a random moment; check its file.  Return whether its
    nodes were being moved."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    path = os.path.join(folder, 'counted.py')
    tree = os.path.join(folder, 'tree.kept')
    with open(path, 'w') as file:
        file.write(COUNTED)
    with tempfile.TemporaryFile(dir=folder) as notes:
        notes.truncate(mmap.PAGESIZE)
        number = notes.fileno()
        program = subprocess.Popen(
            [sys.executable, '-X', f'tracemalloc={rng.choice(["10", "full"])}',
             '-X', f'tracemalloc_file={tree}', path, str(number), kind,
             str(seed)],
            pass_fds=[number], stdout=subprocess.PIPE)
        try:
            assert program.stdout.readline() == b'ready\n'
            time.sleep(rng.random() * rng.choice((0.01, 0.1, 0.4)))
        finally:
            program.kill()
            program.communicate()
        with open(tree, 'rb') as file:
            image = file.read()
        snapshot, known = kept.load(tree)
        blocks, size = struct.unpack('=qq', os.pread(number, 16, 0))
    os.unlink(tree)
    check_sums(snapshot)
    assert known['pid'] == program.pid and not known['incomplete'], known
    if blocks >= 0:
        live, bytes_live = line_of(snapshot, path, LINE)
        assert blocks <= live <= blocks + 1, (kind, seed, blocks, live, size,
                                              bytes_live)
        assert size <= bytes_live <= size + 4000, (kind, seed, size,
                                                   bytes_live)
    # Bytes of the header: see pycore_tracer_kept.h.
    return kind, struct.unpack_from('=I', image, MOVES)[0] % 2


# Offset of `moves` in the header.
MOVES = 8 + 6 * 4 + 8 + 3 * 8 + 4


def main(count, seed=None):
    seed = random.randrange(1 << 30) if seed is None else seed
    folder = tempfile.mkdtemp()
    kinds = {}
    try:
        for number in range(seed, seed + count):
            kind, moving = kill_one(folder, number)
            kinds[kind] = kinds.get(kind, 0) + 1
            if moving:
                kinds['while nodes moved'] = kinds.get('while nodes moved',
                                                       0) + 1
    except BaseException:
        print(f'seed {number}')
        raise
    finally:
        shutil.rmtree(folder)
    print(f'{count} killed, from seed {seed}:',
          ', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items())))


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
