"""Other allocation profilers, from PyPI, into a private environment.

Each is a mode like any other: the same child, run by the profiler.  One that
cannot be installed, or does not start a program here, is skipped by name.
"""

import subprocess

import measure
import packages

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


def modes(stock, trial, timeout, rounds, share, commands=COMMANDS):
    """Return (the modes that work here, {name: why not} of the others).

    Each is tried on a script and its arguments.
    """
    try:
        python = packages.environment(stock)
    except (OSError, subprocess.SubprocessError) as exc:
        return [], {name: f'no private environment: {exc}'
                    for name in commands}
    missing = {package: packages.install(python, [f'{package}=={version}'],
                                         '--only-binary=:all:')
               for package, version in VERSIONS.items()
               if any(package == command[0] for command in commands.values())}
    working, skipped = [], {}
    for name, (package, options, between) in commands.items():
        mode = measure.Mode(name, (python, *options), rounds,
                            between=between, share=share)
        why = missing[package] or measure.run_once(mode, trial,
                                                   timeout).get('error')
        if why:
            skipped[name] = why
        else:
            working.append(mode)
    return working, skipped
