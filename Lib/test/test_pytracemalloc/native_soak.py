"""Native memory with 32 threads that take and free all the time.

    python -m test.test_pytracemalloc.native_soak SECONDS [SEED]

The threads run C code without the GIL.  They take blocks in every way that
there is, resize them, give back parts of mappings, and free what others have
taken.  C code notes the size of what is live.  Meanwhile other threads take
snapshots, fork, and reset the peak.  Round by round, when all have come to
rest, the tracer must have the same size, to the byte.  In between, it is
stopped and started with other depths.  It needs a compiler.
"""
import ctypes
import os
import random
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tracemalloc
import warnings

import _testtracer

from test.test_pytracemalloc.native_frames_case import can_unwind

THREADS = 32
LIMITS = [1, 2, 25, 'full']
NATIVE = [True, 1, 10, 100] if can_unwind() else [True]
SOURCE = r'''
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* At the beginning of each block. */
struct head {
    size_t size;
    int mapped;
};
#define SLOTS 4096
#define PAGE 4096
static struct head *slots[SLOTS];
static long live;

static uint32_t
next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

long
get_live(void)
{
    return __atomic_load_n(&live, __ATOMIC_SEQ_CST);
}

static void
count(long change)
{
    __atomic_fetch_add(&live, change, __ATOMIC_SEQ_CST);
}

static struct head *
take_mapping(uint64_t *state)
{
    size_t size = (3 + next(state) % 30) * PAGE;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    size_t kept = size;
    switch (next(state) % 4) {
    case 0:                             /* the end */
        munmap(p + size - PAGE, PAGE);
        kept -= PAGE;
        break;
    case 1:                             /* the beginning */
        munmap(p, PAGE);
        p += PAGE;
        kept -= PAGE;
        break;
    case 2:
        kept += next(state) % 20 * PAGE;
        p = mremap(p, size, kept, MREMAP_MAYMOVE);
        if (p == MAP_FAILED) {
            abort();
        }
    }
    count((long)kept);
    struct head *head = (struct head *)p;
    *head = (struct head){kept, 1};
    return head;
}

static struct head *
take(uint64_t *state)
{
    size_t size = sizeof(struct head) + next(state) % 3000;
    void *p = NULL;
    if (next(state) % 64 == 0) {
        size *= 200;
    }
    switch (next(state) % 8) {
    case 0: p = calloc(1, size); break;
    case 1:
        size = (size + 63) / 64 * 64;
        p = aligned_alloc(64, size);
        break;
    case 2:
        if (posix_memalign(&p, 256, size) != 0) {
            return NULL;
        }
        break;
    case 3: p = memalign(32, size); break;
    case 4: p = reallocarray(NULL, 2, size); size *= 2; break;
    case 5:
        if (next(state) % 16 == 0) {
            return take_mapping(state);
        }
        /* fall through */
    default: p = malloc(size);
    }
    if (p != NULL) {
        *(struct head *)p = (struct head){size, 0};
        count((long)size);
    }
    return p;
}

static struct head *
resize(uint64_t *state, struct head *head)
{
    if (head == NULL || head->mapped) {
        return head;
    }
    size_t old = head->size;
    size_t size = sizeof(*head) + next(state) % (2 * old);
    struct head *moved = realloc(head, size);
    if (moved == NULL) {
        return head;
    }
    moved->size = size;
    count((long)size - (long)old);
    return moved;
}

static void
give(struct head *head)
{
    if (head != NULL) {
        count(-(long)head->size);
        if (head->mapped) {
            munmap(head, head->size);
        }
        else {
            free(head);
        }
    }
}

void
churn(uint64_t seed, long n)
{
    uint64_t state = seed;
    while (n-- > 0) {
        struct head *head = take(&state);
        if (next(&state) % 4 == 0) {
            head = resize(&state, head);
        }
        give(__atomic_exchange_n(&slots[next(&state) % SLOTS], head,
                                 __ATOMIC_SEQ_CST));
    }
}

void
give_all(void)
{
    for (int i = 0; i < SLOTS; i++) {
        give(__atomic_exchange_n(&slots[i], NULL, __ATOMIC_SEQ_CST));
    }
}
'''


def load_library(folder):
    path = os.path.join(folder, 'churn.so')
    subprocess.run([*shlex.split(sysconfig.get_config_var('CC')), '-shared',
                    '-fPIC', '-O1', '-x', 'c', '-', '-o', path],
                   input=SOURCE, text=True, check=True)
    library = ctypes.CDLL(path)
    library.get_live.restype = ctypes.c_long
    library.churn.argtypes = [ctypes.c_uint64, ctypes.c_long]
    library.churn.restype = library.give_all.restype = None
    return library


# --- Meddling

def take_snapshot(rng):
    snapshot = tracemalloc.take_snapshot(traces=rng.random() < 0.5)
    for stat in snapshot.statistics('lineno'):
        assert min(stat.size, stat.count) >= 0, stat


def look(rng):
    current, peak = tracemalloc.get_native_memory()
    assert 0 <= current <= peak, (current, peak)


def reset_peak(rng):
    tracemalloc.reset_peak()


def make_objects(rng):
    return [[i, float(i), bytearray(i)] for i in range(rng.randrange(2000))]


def fork(rng):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            library.churn(rng.getrandbits(60), 300)
            status = _testtracer.fault() is not None
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


MEDDLING = [take_snapshot, look, look, reset_peak, make_objects, fork]


# --- Rounds

class Soak:

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.errors = []
        self.blocks = 0
        self.begin = threading.Barrier(THREADS + 2)
        self.done = threading.Barrier(THREADS + 1)
        self.end = threading.Barrier(2)
        # They live as long as the program: what the C library has for a
        # thread is native memory, too.
        for target in self.meddle, *[self.work] * THREADS:
            threading.Thread(target=target, daemon=True).start()
        self.start()

    def start(self):
        tracemalloc.stop()
        library.give_all()
        self.nframe = self.rng.choice(LIMITS)
        self.native = self.rng.choice(NATIVE)
        tracemalloc.start(self.nframe, native=self.native)
        self.before = tracemalloc.get_native_memory()[0]

    def work(self):
        # Without the GIL a child may find that of the module random locked.
        rng = random.Random()
        while True:
            self.begin.wait()
            try:
                self.deepen(rng.randrange(20), rng)
            except BaseException as exc:
                self.errors.append(exc)
            self.done.wait()

    def deepen(self, n, rng):
        """Call C code from stacks of many depths."""
        if n > 0:
            return self.deepen(n - 1, rng)
        for _ in range(10):
            library.churn(rng.getrandbits(60), self.calls)

    def meddle(self):
        while True:
            self.begin.wait()
            try:
                while not self.stop.wait(0.01):
                    self.rng.choice(MEDDLING)(self.rng)
            except BaseException as exc:
                self.errors.append(exc)
            self.end.wait()

    def round(self):
        self.calls = self.rng.choice([1, 10, 200])
        self.blocks += THREADS * 10 * self.calls
        self.stop = threading.Event()
        sys.setswitchinterval(self.rng.choice([0.005, 1e-4, 1e-6]))
        self.begin.wait()
        self.done.wait()
        self.stop.set()
        self.end.wait()

    def check(self):
        assert not self.errors, self.errors
        live = tracemalloc.get_native_memory()[0] - self.before
        known = library.get_live()
        assert live == known, (live, known, self.nframe, self.native)
        traced = sum(trace.size for trace in tracemalloc.take_snapshot().traces
                     if trace.domain == tracemalloc.NATIVE_DOMAIN)
        current = tracemalloc.get_native_memory()[0]
        assert traced == current, (traced, current)
        fault = _testtracer.fault()
        assert fault is None, fault
        assert tracemalloc.get_tracer_stats()['untraced'] == 0


def main():
    global library
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if sys.argv[2:] else random.getrandbits(32)
    print('seed', seed, flush=True)
    warnings.simplefilter('ignore', DeprecationWarning)   # fork with threads
    with tempfile.TemporaryDirectory() as folder:
        library = load_library(folder)
    tracemalloc._prepare()        # a child must not wait for an import
    soak = Soak(seed)
    end = time.monotonic() + seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        soak.round()
        soak.check()
        rounds += 1
        if soak.rng.random() < 0.2:
            soak.start()
    print(f'{rounds} rounds, {soak.blocks:,} blocks', flush=True)
    os._exit(0)                   # the threads wait


if __name__ == '__main__':
    main()
