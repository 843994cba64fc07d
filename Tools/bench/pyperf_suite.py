"""pyperformance, the field's own suite, timed by pyperf, in all modes.

Both come from PyPI, pinned, and so do the packages that a benchmark is about:
each set in a directory of its own, installed once, by stock, and loaded by
both interpreters, extension modules included.  pyperf starts the processes
itself; PYTHONTRACEMALLOC in their environment makes a mode of them.
"""

import json
import os
import pathlib
import subprocess
import tempfile

import measure
import packages

REQUIREMENTS = ('pyperf==2.10.0', 'pyperformance==1.14.0', 'psutil==7.2.2')

# What is run unless names are given: what the workloads of this directory
# lack, and packages with compiled wheels (fastapi, sqlalchemy, tornado_http).
CHOSEN = ('deltablue', 'logging', 'pathlib', 'pyflate', 'regex_compile',
          'chameleon', 'fastapi', 'genshi', 'html5lib', 'mako',
          'sqlalchemy_declarative', 'tomli_loads', 'tornado_http')

# One process; enough values for a median, one from a mode that is slow.
PYPERF = ('--processes=1', '--min-time=0.05', '--quiet',
          '--inherit-environ=PYTHONTRACEMALLOC,PYTHONHASHSEED')
USUAL = ('--warmups=1', '--values=3')
SLOW = ('--warmups=0', '--values=1')


class Missing(Exception):
    """The suite cannot be had here; the text says why."""


def place():
    return packages.cache() / 'pyperformance'


def scripts():
    """Return {name: script} of the benchmarks that pyperformance has."""
    folder = place() / 'suite' / 'pyperformance' / 'data-files' / 'benchmarks'
    return {path.parent.name.removeprefix('bm_'): path
            for path in sorted(folder.glob('bm_*/run_benchmark.py'))}


def prepare(stock, names):
    """Install what the benchmarks need.

    Return ({name: (script, its directory of packages)}, {name: why not}).
    Raises Missing if pyperf or pyperformance cannot be had.
    """
    try:
        python = packages.environment(stock)
    except (OSError, subprocess.SubprocessError) as exc:
        raise Missing(f'no private environment: {exc}') from None
    if why := packages.install_apart(python, REQUIREMENTS, place() / 'suite'):
        raise Missing(why)
    known = scripts()
    ready, skipped = {}, {}
    for name in known if names == ['all'] else names:
        if name not in known:
            skipped[name] = 'pyperformance has no such benchmark'
            continue
        extra = place() / name
        listed = known[name].with_name('requirements.txt')
        wanted = listed.read_text().split() if listed.exists() else []
        why = packages.install_apart(python, wanted, extra) if wanted else None
        if why:
            skipped[name] = why
        else:
            ready[name] = (known[name], extra)
    return ready, skipped


def environment(mode, extra):
    """The environment that makes pyperf's children run in this mode."""
    more = {'PYTHONPATH': os.pathsep.join([str(place() / 'suite'),
                                           str(extra)])}
    for option in mode.command[1:]:
        name, _, value = option.partition('=')
        if name == 'tracemalloc':
            more['PYTHONTRACEMALLOC'] = value or '1'
    return measure.clean_environment(**more)


def parse(text):
    """Return {benchmark: {'wall', 'peak_kib'}} of what pyperf wrote.

    Seconds of one loop, the median of the values; the peak of the worker.
    """
    suite = json.loads(text)
    found = {}
    for one in suite['benchmarks']:
        shared = suite.get('metadata', {}) | one.get('metadata', {})
        values, peak = [], 0
        for run in one['runs']:
            values += run.get('values', [])
            if run.get('values'):
                peak = max(peak, (shared | run.get('metadata', {}))
                           .get('mem_max_rss', 0))
        values.sort()
        if values:
            found[shared['name']] = {'wall': values[len(values) // 2],
                                     'peak_kib': peak // 1024}
    return found


def run_once(mode, script, extra, timeout):
    """Run one script in one mode; return parse()'s, or {'error': why}."""
    with tempfile.TemporaryDirectory(prefix='bench-') as work:
        out = pathlib.Path(work, 'out.json')
        turns = USUAL if mode.share == 1 else SLOW
        command = [mode.command[0], str(script), *PYPERF, *turns,
                   '-o', str(out)]
        try:
            status, errors = measure.CHILDREN.run(
                command, timeout, cwd=work, env=environment(mode, extra))
        except subprocess.TimeoutExpired:
            return {'error': f'over {timeout:g} s'}
        except OSError as exc:
            return {'error': str(exc)}
        if status:
            return {'error': f'status {status}: '
                             + measure.last_line(errors)}
        return parse(out.read_text())


def spread(name, modes, rows):
    """Turn a script's rows into those of its benchmarks.

    {mode: [{benchmark: result}]} becomes {benchmark: {mode: [result]}}.  A
    failed script keeps its own name, for the list of errors.
    """
    names = {one for row in rows.values() for result in row if result
             for one in result if 'error' not in result}
    table = {}
    for one in sorted(names) or [name]:
        table[one] = {mode.name: [
            result if not result or 'error' in result else result.get(one)
            for result in rows[mode.name]] for mode in modes}
    return table


def run_all(modes, ready, results, *, rounds, jobs, timeout, progress):
    """Measure; fill `results` as measure.run_all() does, round by round."""
    rows = {name: {mode.name: [] for mode in modes} for name in ready}

    def one(name, turn):
        script, extra = ready[name]
        measure.take_turns(
            modes, rows[name], turn,
            lambda mode: run_once(mode, script, extra, timeout))
        return name

    for turn in range(rounds):
        def done(name):
            results.update(spread(name, modes, rows[name]))
            progress(turn, name)
        measure.run_jobs([(one, name, turn) for name in ready], jobs, done)
