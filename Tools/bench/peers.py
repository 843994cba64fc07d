"""Other allocation profilers, from PyPI, into a private environment.

Each is a mode like any other: the same child, run by the profiler.  One that
cannot be installed, or does not start a program here, is skipped by name.
"""

import os
import pathlib
import subprocess

import measure

VERSIONS = {'memray': '1.20.0', 'filprofiler': '2024.11.2',
            'scalene': '2.4.0'}

# What runs child.py: options of "python", and what stands between the
# script and its arguments.  Output goes to the working directory of the
# child, which is removed after each run.
COMMANDS = {
    'memray': ('memray', ('-m', 'memray', 'run', '-q', '-o', 'out.bin'), ()),
    'memray-python': ('memray', ('-m', 'memray', 'run', '-q', '-o', 'out.bin',
                                 '--trace-python-allocators'), ()),
    'fil': ('filprofiler', ('-m', 'filprofiler', '-o', 'out',
                            '--no-browser', 'run'), ()),
    'scalene': ('scalene', ('-m', 'scalene', 'run', '-o', 'out.json'),
                ('---',)),
}


def cache():
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return pathlib.Path(base) / 'pytracemalloc'


def environment(stock):
    """Return the interpreter of the private environment, made if needed."""
    place = cache() / 'bench-peers'
    python = place / 'bin' / 'python'
    made_for = place / 'made-for'
    if not (made_for.exists() and made_for.read_text() == stock):
        subprocess.run([stock, '-m', 'venv', '--clear', str(place)],
                       check=True, capture_output=True, timeout=300)
        made_for.write_text(stock)
    return str(python)


def install(python, package, version):
    """Install one package; return None, or why not, in a line."""
    done = subprocess.run(
        [python, '-m', 'pip', 'install', '--quiet', '--only-binary=:all:',
         '--disable-pip-version-check', f'{package}=={version}'],
        capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or ['pip failed']
    return lines[-1][:150]


def modes(stock, workload, timeout, rounds):
    """Return (the modes that work here, {name: why not} of the others).

    Each is tried on the workload, with one loop.
    """
    try:
        python = environment(stock)
    except (OSError, subprocess.SubprocessError) as exc:
        return [], {name: f'no private environment: {exc}'
                    for name in COMMANDS}
    missing = {package: install(python, package, version)
               for package, version in VERSIONS.items()}
    working, skipped = [], {}
    for name, (package, options, between) in COMMANDS.items():
        mode = measure.Mode(name, (python, *options), rounds,
                            between=between)
        why = missing[package] or measure.run_once(
            mode, [measure.CHILD, workload.module, workload.name, 1],
            timeout).get('error')
        if why:
            skipped[name] = why
        else:
            working.append(mode)
    return working, skipped
