"""Start-up and snapshots beside stock, and how each grows.

Four series, each changing one thing: blocks, frames, sites (each is a node of
the call tree) and threads.  The growth of a step along a series is the
exponent k of seconds = c * size ** k, fitted: 1 is linear, 0 independent.
"""

import os
import pathlib
import statistics
import time

import measure
import summary

HEAP = pathlib.Path(__file__).resolve().parent / 'heap.py'

# Series: what grows, and the shapes (blocks, frames, sites, threads).
BASE = {'blocks': 100_000, 'frames': 1, 'sites': 10, 'threads': 1}
QUICK = {'blocks': (10_000, 100_000, 1_000_000),
         'frames': (1, 5, 25, 100),
         'sites': (10, 1_000, 50_000),
         'threads': (1, 4, 16)}
FULL = QUICK | {'blocks': (10_000, 100_000, 1_000_000, 10_000_000)}


def series(full):
    """Yield (what grows, its size, arguments of heap.py)."""
    for name, sizes in (FULL if full else QUICK).items():
        for size in sizes:
            yield name, size, list((BASE | {name: size}).values())


def run(modes, full, rounds, timeout, report, progress):
    """Fill report {series: {size: {mode: {step: median}}}}.

    A mode that failed has {'error': why} in place of the steps.
    """
    for name, size, shape in series(full):
        row = measure.alternate(
            modes, [HEAP, *shape], 1 if size > 1_000_000 else rounds, timeout)
        report.setdefault(name, {})[str(size)] = {
            mode: median_of(runs) for mode, runs in row.items()}
        progress(f'{name} {size}')


def median_of(runs):
    """Return the median of each step, or the first error."""
    if why := summary.error_of(runs):
        return {'error': why}
    runs = [one for one in runs if one]
    return {step: statistics.median(one[step] for one in runs)
            for step in runs[0]}


def exponents(report):
    """Return {series: {mode: {step: exponent}}} of what run() returned."""
    growth = {}
    for name, sizes in report.items():
        for mode in next(iter(sizes.values())):
            known = {int(size): row[mode] for size, row in sizes.items()
                     if 'error' not in row[mode]}
            steps = next(iter(known.values()), {})
            growth.setdefault(name, {})[mode] = {
                step: summary.fit_exponent(
                    [(size, row[step]) for size, row in known.items()])
                for step in steps}
    return growth


def start_once(command):
    """Run a command and return {'wall', 'cpu'} of its process."""
    env = measure.clean_environment()
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, env)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    if status:
        return {'error': f'status {os.waitstatus_to_exitcode(status)}'}
    return {'wall': wall, 'cpu': usage.ru_utime + usage.ru_stime}


def start_up(modes, rounds):
    """Return {mode: {'wall', 'cpu'}}: medians of -c pass."""
    runs = {mode.name: [] for mode in modes}
    for turn in range(rounds):
        shift = turn % len(modes)
        for mode in modes[shift:] + modes[:shift]:
            command = [*mode.command, '-c', 'pass']
            runs[mode.name].append(start_once(command))
    return {name: median_of(mine) for name, mine in runs.items()}
