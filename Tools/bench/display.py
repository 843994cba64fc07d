"""What displaying costs: the top 10 of a snapshot beyond loading it, and a
scheduled task that is not due.

    PYTHON display.py [--blocks N] [--check]

PYTHON is ours.  --check: fail if a display takes over 50 ms, or the task over
1 % of the time of an ordinary program.  The cost for a loop that only
allocates is shown as well: a delay counts allocations, a threshold does not.
"""

import argparse
import ast
import io
import os
import tempfile
import textwrap
import time
import tokenize

import tracemalloc
import tracemalloctext

GROUPS = (('line', False), ('filename', False), ('line', True),
          ('function', False), ('type', False), ('address', False))
DISPLAY_MS = 50
TASK_RATIO = 1.01
ROUNDS = 40


def make_blocks(depth, count):
    if depth:
        return make_blocks(depth - 1, count)
    return [(number,) for number in range(count)]


def write_snapshot(filename, count):
    tracemalloc.start(25)
    blocks = make_blocks(9, count)
    tracemalloc.Snapshot.create(traces=True).write(filename)
    tracemalloc.stop()
    return len(blocks)


def display_ms(filename, group_by, cumulative):
    """Milliseconds of the first display of a snapshot just loaded."""
    snapshot = tracemalloc.Snapshot.load(filename)
    start = time.perf_counter()
    tracemalloctext.DisplayTop().display_snapshot(
        snapshot, 10, group_by, cumulative, io.StringIO())
    return (time.perf_counter() - start) * 1000


def parse_source():
    with open(textwrap.__file__, encoding='utf-8') as file:
        source = file.read()
    for _ in tokenize.generate_tokens(io.StringIO(source).readline):
        pass
    return sum(isinstance(node, ast.Name)
               for node in ast.walk(ast.parse(source)))


def allocate():
    kept = {}
    for number in range(150_000):
        kept[number % 1000] = (number, [number], str(number))


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def task_ratio(work):
    """Best time with a scheduled task that is not due / best without."""
    tracemalloc.start()
    task = tracemalloctext.Task(print)
    task.set_delay(3600)
    task.set_memory_threshold(1 << 40)
    without, scheduled = [], []
    for _ in range(ROUNDS):
        without.append(seconds(work))
        task.schedule()
        scheduled.append(seconds(work))
        task.cancel()
    tracemalloc.stop()
    return min(scheduled) / min(without)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--blocks', type=int, default=1_000_000)
    parser.add_argument('--check', action='store_true')
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        filename = os.path.join(directory, 'blocks.tracemalloc')
        write_snapshot(filename, options.blocks)
        for group_by, cumulative in GROUPS:
            best = min(display_ms(filename, group_by, cumulative)
                       for _ in range(3))
            failed |= best > DISPLAY_MS
            print('top 10 by %-20s %7.1f ms' % (
                group_by + (', cumulative' if cumulative else ''), best))
    ratio = task_ratio(parse_source)
    failed |= ratio > TASK_RATIO
    print('task not due, a program %15.3f times' % ratio)
    print('task not due, allocations %13.3f times' % task_ratio(allocate))
    if options.check and failed:
        raise SystemExit('display.py: over the limit of %d ms or %.2f times'
                         % (DISPLAY_MS, TASK_RATIO))


if __name__ == '__main__':
    main()
