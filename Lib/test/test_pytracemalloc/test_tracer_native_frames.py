"""The C frames of native memory.

The oracle is backtrace() of the C library, which unwinds by other code: C
functions made here call it where they call malloc(), at the end of random
stacks of functions that have frames of all kinds.
"""
import ctypes
import os
import random
import textwrap
import threading
import tracemalloc
import unittest

from test import support
from test.support import import_helper, script_helper
from test.test_pytracemalloc.native_frames_case import (
    FramesCase, compile_library, frames_of, tracebacks)

_testtracer = import_helper.import_module('_testtracer')

# The frame of this function can have any size, at the same addresses.
FRAME_SOURCE = '''
        .text
        .globl take
        .type take, @function
take:   .cfi_startproc
        subq $SIZE, %rsp
        .cfi_adjust_cfa_offset SIZE
        call malloc@PLT
        addq $SIZE, %rsp
        .cfi_adjust_cfa_offset -SIZE
        ret
        .cfi_endproc
        .size take, .-take
        .section .note.GNU-stack,"",@progbits
'''

# A thread whose rules are wrong: its frame ends where the stack ends, and that
# of its caller where no memory can be.
WRONG_SOURCE = '''
#include <pthread.h>
#include <stdlib.h>
__asm__(
"lie:    .cfi_startproc\\n"
"        pushq %rbx\\n"
"        pushq %rbp\\n"
"        subq $24, %rsp\\n"
"        movq %fs:16, %rbx\\n"          // pthread_self()
"        movabsq $0x4242424242424240, %rbp\\n"
"        movq -8(%rbx), %rax\\n"
"        movq %rax, (%rsp)\\n"
"        leaq caller(%rip), %rax\\n"
"        movq %rax, -8(%rbx)\\n"
"        .cfi_def_cfa %rbx, 0\\n"
"        call malloc@PLT\\n"
"        movq (%rsp), %rdx\\n"
"        movq %rdx, -8(%rbx)\\n"
"        addq $24, %rsp\\n"
"        popq %rbp\\n"
"        popq %rbx\\n"
"        ret\\n"
"        .cfi_endproc\\n"
"        .cfi_startproc\\n"
"        .cfi_def_cfa %rbp, 0\\n"
"        nop\\n"
"caller: ret\\n"
"        .cfi_endproc\\n");
void *lie(void *);
void *
run(size_t size)
{
    pthread_t thread;
    void *block;
    pthread_create(&thread, NULL, lie, (void *)size);
    pthread_join(thread, &block);
    return block;
}
'''

DEEP_SOURCE = '''
#include <stdlib.h>
int
deep(int n)
{
    volatile char room[8192];
    room[0] = malloc(1000003 + n) != NULL;
    return n > 0 ? deep(n - 1) + room[0] : room[0];
}
'''


class StackTests(FramesCase):

    def check_random(self, *options):
        library = self.load(*options)
        rng = random.Random(str(options))
        runs = []
        first = self.new_run([])
        library.run(ctypes.byref(first))        # backtrace() loads a library
        self.start()
        for _ in range(60):
            run = self.new_run(rng.choices(range(6), k=rng.randrange(12)))
            library.run(ctypes.byref(run))
            runs.append(run)
        known = tracebacks()
        self.assertEqual({run.size for run in runs} - {*known}, set())
        for run in runs:
            names = self.check(run)
            self.assertGreater(len(names), run.n)
            self.free(run.block)
        self.free(first.block)
        self.assertIsNone(_testtracer.fault())

    def check_all(self, runs):
        known = tracebacks()
        for run in runs:
            found = [frame.address
                     for frame in reversed(known[run.size].native)]
            self.assertEqual(found[1:], self.truth(run)[1:])
            self.free(run.block)
        self.assertIsNone(_testtracer.fault())

    def check_again(self, *options):
        """The same stacks in turn, at several depths of the C stack."""
        library = self.load(*options)
        rng = random.Random(str(options))
        kinds = [rng.choices(range(6), k=rng.randrange(4)) for _ in range(12)]
        runs = []
        self.start()

        def at(depth, wanted):
            if depth:
                max([depth], key=lambda depth: at(depth - 1, wanted))
            else:
                run = self.new_run(wanted)
                library.run(ctypes.byref(run))
                runs.append(run)

        for depth in 0, 9, 2, 5, 0:
            for wanted in rng.sample(kinds, len(kinds)):
                at(depth, wanted)
        self.check_all(runs)

    def test_again(self):
        self.check_again('-O2')

    def test_again_frame_pointers(self):
        self.check_again('-O0')

    def test_more_than_are_kept(self):
        library = self.load('-O2')
        rng = random.Random(7)
        self.size = 100_003
        self.start()
        runs = [self.new_run(rng.choices(range(5), k=15)) for _ in range(1500)]
        for run in runs + runs[:3]:
            self.free(run.block)
            library.run(ctypes.byref(run))
        self.check_all(runs)

    def test_optimized(self):
        self.check_random('-O2')

    def test_not_optimized(self):
        self.check_random('-O0')

    def test_frame_pointers(self):
        self.check_random('-O2', '-fno-omit-frame-pointer')

    def test_small(self):
        self.check_random('-Os', '-fcf-protection=full')

    def test_limit(self):
        library = self.load('-O1')
        for most in 1, 2, 7:
            self.start(most)
            run = self.new_run([0] * 9)
            library.run(ctypes.byref(run))
            self.assertEqual(len(frames_of(run.size)), most)
            self.check(run, most)
            self.free(run.block)
            tracemalloc.stop()

    def test_none(self):
        library = self.load()
        for native in True, 5:
            self.start(native)
            run = self.new_run([0])
            library.run(ctypes.byref(run))
            python = tracebacks()[run.size]
            self.assertEqual(bool(python.native), native == 5)
            self.assertEqual(python[-1].filename, __file__)
            self.free(run.block)
            tracemalloc.stop()

    def test_interleaved(self):
        """C frames are those above the innermost Python frame alone."""
        library = self.load('-O2')
        self.start()
        runs = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def compare(a, b):
            run = self.new_run([4, 1, 0])
            library.run(ctypes.byref(run))
            runs.append(run)
            return 0

        pair = (ctypes.c_int * 2)()
        ctypes.CDLL(None).qsort(pair, ctypes.c_size_t(2), ctypes.c_size_t(4),
                                compare)
        run, = runs
        names = self.check(run)
        below = [library.name_of(address)
                 for address in run.truth[len(names):run.found]]
        sorting = b'qsort' if b'qsort' in below else b'qsort_r'
        self.assertIn(sorting, below)
        self.assertNotIn(sorting, names)
        self.assertEqual(tracebacks()[run.size][-1].filename, __file__)
        self.free(run.block)

    def test_threads(self):
        library = self.load('-O2')
        self.start()
        runs = [self.new_run([0, 1, 2, 3, 4] * 3) for _ in range(4)]
        threads = [threading.Thread(target=library.run,
                                    args=(ctypes.byref(run),))
                   for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs:
            self.check(run)
            self.free(run.block)

    def test_thread_of_c(self):
        """Without a Python frame, it is the whole stack."""
        library = self.load('-O2')
        self.start()
        run = self.new_run([2, 4])
        library.run_in_thread(ctypes.byref(run))
        self.check(run)
        self.assertEqual(len(frames_of(run.size)), run.found)
        self.free(run.block)

    def test_other_stack(self):
        library = self.load()
        library.on_other_stack.restype = ctypes.c_void_p
        self.start()
        for _ in range(3):
            block = library.on_other_stack()
            self.assertEqual(frames_of(1000117), [])
            self.free(block)

    @unittest.skipIf(support.Py_DEBUG,
                     'what it overwrites meanwhile is the rank of a lock')
    def test_end_of_stack(self):
        """Nothing is read behind it, whatever a rule says."""
        path = compile_library(self.directory, 'wrong', WRONG_SOURCE)
        run = ctypes.CDLL(path).run
        run.restype = ctypes.c_void_p
        self.start()
        block = run(ctypes.c_size_t(1_000_003))
        self.assertEqual(len(frames_of(1_000_003)), 2)
        self.free(block)

    def test_a_stack_that_grows(self):
        path = compile_library(self.directory, 'deep', DEEP_SOURCE)
        script_helper.assert_python_ok('-c', textwrap.dedent(f'''
            import ctypes, tracemalloc
            deep = ctypes.CDLL({path!r}).deep
            tracemalloc.start('full', native=3)
            deep(199)
            found = [trace.traceback.native
                     for trace in tracemalloc.take_snapshot().traces
                     if 1_000_003 <= trace.size < 1_000_203]
            assert len(found) == 200, len(found)
            assert {{len(frames) for frames in found}} == {{3}}, [
                len(frames) for frames in found]
            '''))

    def test_unloaded(self):
        """A library at the addresses of one that was unloaded has rules of its
        own."""
        import _ctypes
        self.start()
        callers = []
        bases = set()
        for size in 24, 104, 24, 56:
            path = compile_library(self.directory, 'frame',
                                   FRAME_SOURCE.replace('SIZE', str(size)),
                                   '-nostdlib', suffix='.s')
            handle = _ctypes.dlopen(path, 0)
            take = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(
                _ctypes.dlsym(handle, 'take'))
            self.size += 1
            block = take(self.size)
            # The last one, where the eval loop makes a call, depends on how
            # often the interpreter has run the line.
            first, *rest, _ = frames_of(self.size)
            bases.add(first)
            callers.append(rest)
            self.free(block)
            del take
            _ctypes.dlclose(handle)
        if len(bases) > 1:
            self.skipTest('the libraries were at different addresses')
        self.assertEqual(callers, [callers[0]] * 4)
        self.assertGreater(len(callers[0]), 2)

    def test_file(self):
        library = self.load('-O2')
        self.start()
        run = self.new_run([0, 4])
        library.run(ctypes.byref(run))
        snapshot = tracemalloc.take_snapshot()
        path = os.path.join(self.directory, 'x')
        snapshot.dump(path)
        loaded = tracemalloc.Snapshot.load(path)
        self.assertEqual(loaded.traces, snapshot.traces)
        frame = tracebacks()[run.size].native[-1]
        self.assertEqual(frame.module, library._name)
        self.assertEqual(frame.address, frames_of(run.size)[0])
        same = [trace.traceback for trace in loaded.traces
                if trace.size == run.size]
        self.assertEqual(same[0].native[-1], frame)
        # Sums are as they were: a pickle has no C frames.
        for key in 'lineno', 'traceback', 'type', 'domain':
            self.assertEqual(loaded.statistics(key), snapshot.statistics(key))
        snapshot.dump(path, format='pickle')
        pickled = tracemalloc.Snapshot.load(path)
        self.assertEqual(pickled.statistics('traceback'),
                         snapshot.statistics('traceback'))
        self.free(run.block)


class ArgumentTests(FramesCase):

    def test_numbers(self):
        for number in -1, 101, 2**31, -2**70:
            with self.assertRaises((ValueError, OverflowError)):
                tracemalloc.start(native=number)
            self.assertFalse(tracemalloc.is_tracing())
        tracemalloc.start(native=0)
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))

    def test_options(self):
        code = textwrap.dedent('''
            import ctypes, tracemalloc
            ctypes.CDLL(None).malloc(1_000_003)
            print([len(trace.traceback.native)
                   for trace in tracemalloc.take_snapshot().traces
                   if trace.size == 1_000_003])
            ''')
        on = '-X', 'tracemalloc', '-X'
        for options, environment, n in (
                ((*on, 'tracemalloc_native=3'), {}, 3),
                ((*on, 'tracemalloc_native'), {}, 0),
                ((*on, 'tracemalloc_native=yes'), {}, 0),
                (on[:2], {'PYTRACEMALLOC_NATIVE': '2'}, 2),
                ((*on, 'tracemalloc_native'), {'PYTRACEMALLOC_NATIVE': '2'},
                 0)):
            found = script_helper.assert_python_ok(
                *options, '-c', code, **environment).out
            self.assertEqual(found, b'[%d]\n' % n, options)


if __name__ == '__main__':
    unittest.main()
