"""Run children in alternation and collect what they took.

One measurement is one fresh process: a mode (an interpreter with its options)
running one workload.  Within a round the modes of a workload follow each
other, and the next round starts with another one, so that a slow minute of
the machine hits all of them.  Later, one round of a mode is always compared
with the same round of the base.

A mode that is many times slower than the base does a share of the loops, and
less still when that takes too long.  It is then paired with a run of the base
that does the same loops.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
CHILD = HERE / 'child.py'
FOLDERS = re.compile(r'(?<![\w:/])/(?:[^\s/]+/)+')


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to run a workload: a name and the command before child.py."""
    name: str
    command: tuple
    rounds: int | None = None   # at most so many, for those that are slow
    between: tuple = ()         # what follows the script, before its own
    share: float = 1.0          # of the loops; below 1 for those that are slow


class Stopped(Exception):
    """A measurement was ended from outside; it counts for nothing."""


class Children:
    """The processes that run now, each a group of its own.

    Ctrl-C goes only to the runner, which then ends them all: a child killed by
    it would look like a workload that fails.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.live = set()
        self.stopped = False

    def run(self, command, timeout, **options):
        """Run to the end; return (status, standard error).

        Raises subprocess.TimeoutExpired, OSError, Stopped.
        """
        with self.lock:
            if self.stopped:
                raise Stopped
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, start_new_session=True, **options)
            self.live.add(process)
        try:
            _, errors = process.communicate(timeout=timeout)
        finally:
            self.kill(process)
            process.wait()
            process.stderr.close()
            with self.lock:
                self.live.discard(process)
        if self.stopped:
            raise Stopped
        return process.returncode, errors.decode(errors='replace')

    @staticmethod
    def kill(process):
        """End what is left of a process's group."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def stop(self):
        """End all of them, and start no more."""
        with self.lock:
            self.stopped = True
            for process in self.live:
                self.kill(process)


CHILDREN = Children()


def clean_environment(**more):
    """The environment of a child: no PYTHON* of the caller, fixed hashes.

    By chance a big block may lie on top of the C library's heap, where it
    would be given back and faulted in again in each loop.
    """
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(('PYTHON', 'PYTRACEMALLOC'))}
    env.update(PYTHONHASHSEED='0', PYTHONNOUSERSITE='1',
               MALLOC_MMAP_THRESHOLD_=str(32 << 20),
               MALLOC_TRIM_THRESHOLD_=str(64 << 20), **more)
    return env


def last_line(text):
    """Return the last line of an error, with files but not their folders."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return 'no result'
    return FOLDERS.sub('', lines[-1].strip())[:200]


def run_once(mode, arguments, timeout):
    """Run one child; return its result, or {'error': why}."""
    with tempfile.TemporaryDirectory(prefix='bench-') as work:
        result = os.path.join(work, 'result.json')
        script, *rest = map(str, arguments)
        command = [*mode.command, script, *mode.between, *rest, result]
        try:
            status, errors = CHILDREN.run(command, timeout, cwd=work,
                                          env=clean_environment())
        except subprocess.TimeoutExpired:
            return {'error': f'over {timeout:g} s', 'timeout': True}
        except OSError as exc:
            return {'error': str(exc)}
        try:
            with open(result) as file:
                return json.load(file)
        except (OSError, ValueError):
            return {'error': f'status {status}: {last_line(errors)}'}


def take_turns(modes, rows, turn, run):
    """Let run(mode) add one result to rows[mode.name], for each mode.

    A mode that has had its rounds, or that failed, gets None.
    """
    shift = turn % len(modes)
    for mode in modes[shift:] + modes[:shift]:
        row = rows[mode.name]
        spent = mode.rounds is not None and turn >= mode.rounds
        failed = any(old and 'error' in old for old in row)
        row.append(None if spent or failed else run(mode))


def alternate(modes, arguments, rounds, timeout):
    """Return {mode name: [result per round]} of one script."""
    rows = {mode.name: [] for mode in modes}
    for turn in range(rounds):
        take_turns(modes, rows, turn,
                   lambda mode: run_once(mode, arguments, timeout))
    return rows


class Round:
    """One round of one workload: each mode, and the bases they need."""

    def __init__(self, item, base, loops, timeout):
        self.item = item
        self.base = base
        self.loops = loops
        self.timeout = timeout
        self.bases = {}

    def child(self, mode, loops):
        return run_once(mode, [CHILD, self.item.module, self.item.name, loops],
                        self.timeout)

    def run(self, mode):
        """Measure a mode; return its result.

        If it did not do all loops, 'loops' in the result says how many it did,
        and 'base' what the base took for the same number.
        """
        loops = max(1, round(self.loops * mode.share))
        result = self.child(mode, loops)
        while mode.share < 1 and 'timeout' in result and loops > 1:
            loops = max(1, loops // 10)
            result = self.child(mode, loops)
        if 'error' in result:
            return result | {'error': f"{result['error']} for {loops} of "
                                      f'{self.loops} loops'}
        if loops == self.loops:
            return result
        if loops not in self.bases:
            self.bases[loops] = self.child(self.base, loops)
        return result | {'loops': loops, 'base': self.bases[loops]}


def run_all(modes, workloads, results, *, rounds, jobs, timeout, progress,
            scale=1.0, until=None):
    """Measure every workload in every mode.

    `results`, {workload: {mode: [result]}}, grows as they come in, and
    progress(turn, workload) is called after each workload of each round.
    No round after the first one starts that would hardly be over by `until`,
    a time of time.monotonic().  Several jobs share the machine's cores, one
    workload each; workloads that have threads of their own run alone.
    """
    for item in workloads:
        results[item.name] = {mode.name: [] for mode in modes}

    def one(item, turn):
        this = Round(item, modes[0], max(1, round(item.loops * scale)),
                     timeout)
        take_turns(modes, results[item.name], turn, this.run)
        return item.name

    for turn in range(rounds):
        started = time.monotonic()
        for alone in (False, True):
            chosen = [item for item in workloads if item.threads is alone]
            run_jobs([(one, item, turn) for item in chosen],
                     1 if alone else jobs,
                     lambda name: progress(turn, name))
        now = time.monotonic()
        if until is not None and now + (now - started) > until:
            break


def run_jobs(calls, lanes, done):
    """Run the calls in so many threads; done(result) as each returns.

    On an exception, Ctrl-C for one, the children are ended and it goes on.
    """
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        futures = [pool.submit(*call) for call in calls]
        try:
            for future in concurrent.futures.as_completed(futures):
                done(future.result())
        except BaseException:
            CHILDREN.stop()
            pool.shutdown(cancel_futures=True)
            raise


def warm_up(modes, timeout):
    """Let each interpreter write its byte code before any clock runs."""
    seen = set()
    for mode in modes:
        if mode.command[0] not in seen:
            seen.add(mode.command[0])
            plain = Mode(mode.name, (mode.command[0],))
            run_once(plain, [CHILD, 'system', 'import_all', 1], timeout)
