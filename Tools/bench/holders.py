"""Recording and querying references, compared with Heapy and objgraph.

All three have the same heaps, of objects that hold each other.  Ours traces
with one frame; the two others run in stock's interpreter, from a private
environment.
"""

import pathlib
import tempfile

import measure
import packages
import scaling

CHILD = pathlib.Path(__file__).resolve().parent / 'holders_child.py'
REQUIREMENTS = {'heapy': 'guppy3==3.1.7', 'objgraph': 'objgraph==3.7.0'}
OBJECTS = (100_000, 1_000_000)
FULL = OBJECTS + (10_000_000,)


def prepare(args, skipped):
    """Return the modes; say in `skipped` which of the others are not here."""
    chosen = [measure.Mode('ours', (args.ours,))]
    try:
        python = packages.environment(args.stock)
    except (OSError, packages.subprocess.SubprocessError) as exc:
        skipped.update(dict.fromkeys(REQUIREMENTS, str(exc)))
        return chosen
    for name, requirement in REQUIREMENTS.items():
        if why := packages.install(python, [requirement]):
            skipped[name] = why
        else:
            chosen.append(measure.Mode(name, (python,)))
    return chosen


def run(chosen, full, timeout, rows, progress):
    """Add [objects, {tool: {step: figure} or {'error': why}}] to rows."""
    for objects in FULL if full else OBJECTS:
        found = {}
        for mode in chosen:
            with tempfile.TemporaryDirectory() as directory:
                once = measure.run_once(
                    mode, [CHILD, mode.name, objects, directory], timeout)
            found[mode.name] = scaling.median_of([once])
            progress(f'{objects} objects: {mode.name}')
        rows.append([objects, found])
