"""Native memory: libraries that allocate in C, beside memray.

Each workload of native_child.py runs untraced, traced, and with native memory
traced as well, without and with C frames; memray has the same workloads,
without and with its native stacks.  The libraries come from PyPI, pinned, for the stock interpreter; ours
uses the same.
"""

import hashlib
import pathlib
import subprocess
import time

import measure
import native_child
import packages
import peers

CHILD = pathlib.Path(native_child.__file__).resolve()
REQUIREMENTS = ('lxml==6.1.3', 'numpy==2.5.5', 'pyarrow==26.0.1')
FRAMES = '25'
C_FRAMES = '10'
TRACED = ('-X', f'tracemalloc={FRAMES}')
MEMRAY = {
    'memray': peers.COMMANDS['memray'],
    'memray-native': ('memray', ('-m', 'memray', 'run', '-q', '--native',
                                 '-o', 'out.bin'), ()),
}


def own_modes(stock, ours):
    """Return the modes of the two interpreters, the base first."""
    return [measure.Mode('stock', (stock,)), measure.Mode('off', (ours,)),
            measure.Mode(FRAMES, (ours, *TRACED)),
            measure.Mode('native', (ours, *TRACED, '-X',
                                    'tracemalloc_native')),
            measure.Mode(f'native-{C_FRAMES}',
                         (ours, *TRACED, '-X',
                          f'tracemalloc_native={C_FRAMES}'))]


def install(stock):
    """Return (the folder with the libraries, None, or why not)."""
    key = hashlib.sha256(stock.encode()).hexdigest()[:12]
    place = packages.cache() / 'bench-native' / key
    try:
        python = packages.environment(stock)
    except (OSError, subprocess.SubprocessError) as exc:
        return place, str(exc)
    return place, packages.install_apart(python, list(REQUIREMENTS), place)


def prepare(args, skipped):
    """Return (modes, folder of the libraries); say in `skipped` what is not
    here."""
    place, why = install(args.stock)
    if why:
        skipped['libraries'] = why
    found, missing = peers.modes(args.stock, [CHILD, 'json', place],
                                 args.timeout or 60, None, 1.0, MEMRAY)
    skipped.update(missing)
    return own_modes(args.stock, args.ours) + found, place


def run(modes, place, rounds, timeout, results, progress, until):
    """Fill `results`, {workload: {mode: [result]}}, a round after the other;
    no round starts that would hardly be over by `until`."""
    for name in native_child.WORKLOADS:
        results[name] = {mode.name: [] for mode in modes}
    for turn in range(rounds):
        began = time.monotonic()
        for name in native_child.WORKLOADS:
            measure.take_turns(
                modes, results[name], turn,
                lambda mode: measure.run_once(mode, [CHILD, name, place],
                                              timeout))
            progress(f'round {turn + 1}: {name}')
        now = time.monotonic()
        if now + (now - began) > until:
            break
