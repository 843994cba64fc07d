"""The law of the heap graph while CPython's own tests run.

    python -m test.test_pytracemalloc.law_in_tests EVERY MODULE...

After each collection whose number is a multiple of EVERY, the heap is captured.
Prints a line for each module of tests, and under it one for each test that
failed, with the end of its traceback; ends with 1 where the law was broken.
"""

import gc
import io
import sys
import unittest

import _testtracer


class Watch:
    """What was seen after collections."""

    def __init__(self, every):
        self.every = every
        self.collections = self.captures = 0
        self.broken = {}

    def __call__(self, phase, info):
        if phase != 'stop':
            return
        self.collections += 1
        if self.collections % self.every == 0:
            self.captures += 1
            found = _testtracer.heap_law()['broken types']
            for name, count in found.items():
                self.broken[name] = max(self.broken.get(name, 0), count)


def run(name):
    """Run a module; return its counts, and a line for each test that failed."""
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(f'test.{name}')
    except unittest.SkipTest as exc:
        return f'skipped: {exc}', []
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    lines = [f'    {test.id()}: {text.rstrip().rpartition(chr(10))[2]}'
             for test, text in result.errors + result.failures]
    return (f'{result.testsRun} tests, {len(result.errors)} errors, '
            f'{len(result.failures)} failures', lines)


def main():
    # Help texts are compared to the line, and argparse begins them with the
    # name of the module that -m runs.
    sys.modules['__main__'].__spec__ = None
    watch = Watch(int(sys.argv[1]))
    gc.callbacks.append(watch)
    for name in sys.argv[2:]:
        done, lines = run(name)
        print(f'{name}: {done}; {watch.captures} captures, '
              f'broken: {watch.broken or "nothing"}', *lines, sep='\n',
              flush=True)
    gc.callbacks.clear()
    return 1 if watch.broken else 0


if __name__ == '__main__':
    sys.exit(main())
