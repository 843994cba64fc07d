"""Run children in alternation and collect what they took.

One measurement is one fresh process: a mode (an interpreter with its options)
running one workload.  Within a round the modes follow each other, and the
next round starts with another one, so that a slow minute of the machine hits
all of them.  What is compared later is always one round of a mode with the
same round of the base.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CHILD = HERE / 'child.py'


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to run a workload: a name and the command before child.py."""
    name: str
    command: tuple
    rounds: int | None = None   # at most so many, for those that are slow
    between: tuple = ()         # what follows the script, before its own


def clean_environment():
    """The environment of a child: no PYTHON* of the caller, fixed hashes."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(('PYTHON', 'PYTRACEMALLOC'))}
    env.update(PYTHONHASHSEED='0', PYTHONNOUSERSITE='1')
    return env


def run_once(mode, arguments, timeout):
    """Run one child; return its result, or {'error': why}."""
    with tempfile.TemporaryDirectory(prefix='bench-') as work:
        result = os.path.join(work, 'result.json')
        script, *rest = map(str, arguments)
        command = [*mode.command, script, *mode.between, *rest, result]
        try:
            done = subprocess.run(
                command, cwd=work, env=clean_environment(),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {'error': f'over {timeout} s'}
        except OSError as exc:
            return {'error': str(exc)}
        try:
            with open(result) as file:
                return json.load(file)
        except (OSError, ValueError):
            lines = done.stderr.decode(errors='replace').split('\n')
            last = next((line for line in reversed(lines) if line.strip()),
                        'no result')
            return {'error': f'status {done.returncode}: {last[:200]}'}


def alternate(modes, arguments, rounds, timeout):
    """Return {mode name: [result per round]} of one workload.

    A mode with fewer rounds than the others has None in the rest; one that
    fails or takes too long is not tried again.
    """
    results = {mode.name: [None] * rounds for mode in modes}
    for turn in range(rounds):
        shift = turn % len(modes)
        for mode in modes[shift:] + modes[:shift]:
            mine = results[mode.name]
            if mode.rounds is not None and turn >= mode.rounds:
                continue
            if any(old and 'error' in old for old in mine[:turn]):
                continue
            mine[turn] = run_once(mode, arguments, timeout)
    return results


def run_all(modes, workloads, *, rounds, jobs, timeout, progress, scale=1.0):
    """Measure every workload in every mode: {workload: {mode: [result]}}.

    Several jobs share the machine's cores, one workload each; workloads that
    have threads of their own run alone, after the others.
    """
    modes = list(modes)
    results = {}

    def one(item):
        loops = max(1, round(item.loops * scale))
        arguments = [CHILD, item.module, item.name, loops]
        results[item.name] = alternate(modes, arguments, rounds, timeout)
        progress(item.name)

    for alone in (False, True):
        chosen = [item for item in workloads if item.threads is alone]
        lanes = 1 if alone else jobs
        with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
            for future in [pool.submit(one, item) for item in chosen]:
                future.result()
    return {item.name: results[item.name] for item in workloads}


def warm_up(modes, timeout):
    """Let each interpreter write its byte code before any clock runs."""
    seen = set()
    for mode in modes:
        if mode.command[0] not in seen:
            seen.add(mode.command[0])
            plain = Mode(mode.name, (mode.command[0],))
            run_once(plain, [CHILD, 'system', 'import_all', 1], timeout)
