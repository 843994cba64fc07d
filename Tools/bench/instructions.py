"""Instructions per operation: untraced, ours against stock; traced, ours
against ours before a change.

A clock on a shared machine cannot resolve half a percent; a count can.  Each
snippet runs with N loops and with 3N.  The difference divided by 2N does not
include start-up, which is a snippet of its own. Hash seed and addresses are
fixed.
Valgrind counts, always the same.  Where there is no Valgrind, perf counts, if
the processor allows it.  For a snippet over its limit, Valgrind also says
which functions the cost is in.

The snippets take the paths that the patches touch: each free list, each
allocator and size range, frames, generators, code objects.
"""

import collections
import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile

import measure
import summary

LIMIT = 0.5     # percent that a snippet may cost more than with stock
TIMEOUT_S = 600
FRAMES = '1', '25'      # limits of the traced counts
PERF_TURNS = 5  # counts of the processor vary a little; the least is taken


@dataclasses.dataclass(frozen=True)
class Snippet:
    name: str
    code: str
    loops: int = 20_000
    setup: str = 'pass'


SNIPPETS = (
    Snippet('empty loop', 'pass', 100_000),
    Snippet('float', 'y = x * 1.5 + 2.5; z = y - x', setup='x = 1.25'),
    Snippet('integer', 'y = x * 3 + 7', setup='x = 10 ** 12'),
    Snippet('tuple', 'y = (x, x, x)', setup='x = []'),
    Snippet('list', 'y = [x]; y.append(x); del y', setup='x = 1'),
    Snippet('dict', 'y = {"a": x}; y["b"] = x; del y', setup='x = 1'),
    Snippet('set', 'y = {x, 2}; del y', setup='x = 1'),
    Snippet('slice', 'y = x[i:]', setup='x = [1, 2, 3]; i = 1'),
    Snippet('string', 'y = x + "b"; z = y.upper()', setup='x = "a"'),
    Snippet('bytes 200', 'y = bytes(200); del y'),
    Snippet('bytes 5000', 'y = bytes(5000); del y'),
    Snippet('list growth', 'y = [0]\n        for i in range(100):\n'
            '            y.append(i)', 1000),
    Snippet('instance', 'y = C(1)', setup='class C:\n'
            '        def __init__(self, x):\n            self.x = x'),
    Snippet('instance, slots', 'y = C(1)', setup='class C:\n'
            '        __slots__ = ("x",)\n'
            '        def __init__(self, x):\n            self.x = x'),
    Snippet('call', 'f(1)', setup='f = lambda x: x'),
    Snippet('call, keywords', 'f(1, b=2, c=3)',
            setup='def f(*args, **kw):\n        return kw'),
    Snippet('generator', 'for y in g(): pass', 5000,
            setup='def g():\n        yield 1\n        yield 2'),
    Snippet('coroutine', 'try:\n            f().send(None)\n'
            '        except StopIteration:\n            pass', 5000,
            setup='async def g():\n        return 1\n'
            '    async def f():\n        return await g()'),
    Snippet('exception', 'try:\n            raise ValueError(1)\n'
            '        except ValueError:\n            pass', 5000),
    Snippet('deep call', 'f(50)', 300,
            setup='def f(n):\n        return f(n - 1) if n else 0'),
    Snippet('compile', 'exec("y = [1]", {})', 200),
    Snippet('collection', 'y = []; y.append(y); del y', 5000),
)
START_UP = Snippet('start-up', 'pass', 1)

PROGRAM = '''
def main(n):
    {setup}
    for _ in range(n):
        {code}
main({loops})
'''


def fixed_addresses():
    """Return the command that loads programs at fixed addresses, or ()."""
    if shutil.which('setarch'):
        command = ('setarch', os.uname().machine, '-R')
        if subprocess.run([*command, 'true'], capture_output=True,
                          check=False).returncode == 0:
            return command
    return ()


def counter():
    """Return (name, command) of what counts, or None where nothing does.

    Valgrind, or else perf; where neither works, apt installs Valgrind.
    """
    if not shutil.which('valgrind'):
        if shutil.which('perf'):
            tool = 'perf', (*fixed_addresses(), 'perf', 'stat', '-x,', '-e',
                            'instructions:u')
            if count(tool, ('true',)):
                return tool
        install_valgrind()
    if shutil.which('valgrind'):
        return 'valgrind', (*fixed_addresses(), 'valgrind',
                            '--tool=cachegrind', '--cache-sim=no')
    return None


def install_valgrind():
    """Install Valgrind if this is Debian and we may; say so."""
    if not shutil.which('apt-get'):
        return
    print('installing valgrind', file=sys.stderr, flush=True)
    environment = os.environ | {'DEBIAN_FRONTEND': 'noninteractive'}
    for command in ('update',), ('install', '-y', 'valgrind'):
        as_root = () if os.geteuid() == 0 else ('sudo', '-nE')
        with contextlib.suppress(OSError):
            subprocess.run([*as_root, 'apt-get', '-qq', *command],
                           env=environment, stdout=subprocess.DEVNULL,
                           check=False)


def count(tool, command):
    """Return the user-mode instructions of a command by function.

    perf knows no functions: it gives one, called 'all'.  Empty on failure.
    """
    name, prefix = tool
    with tempfile.TemporaryDirectory(prefix='bench-') as work:
        out = os.path.join(work, 'counts')
        if name == 'valgrind':
            prefix = (*prefix, '--cachegrind-out-file=' + out)
        status, errors = measure.CHILDREN.run(
            [*prefix, *command], TIMEOUT_S, cwd=work,
            env=measure.clean_environment())
        if status:
            return collections.Counter()
        if name == 'valgrind':
            return read_cachegrind(out)
        found = re.search(r'^(\d+),', errors, re.MULTILINE)
        return collections.Counter({'all': int(found[1])} if found else {})


def read_cachegrind(path):
    """Return {function: instructions} of a file of cachegrind."""
    counts = collections.Counter()
    with open(path) as file:
        for line in file:
            if line.startswith('fn='):
                function = line[3:].strip()
            elif line[0].isdigit():
                counts[function] += int(line.split()[1])
    return counts


def best_count(tool, command):
    """Return the least of some counts; cachegrind's are all the same."""
    turns = 1 if tool[0] == 'valgrind' else PERF_TURNS
    return min((count(tool, command) for _ in range(turns)),
               key=lambda counts: sum(counts.values()))


def per_loop(tool, command, snippet):
    """Return {function: instructions of one loop}, start-up excluded.

    For START_UP, the instructions of starting and ending.
    """
    command = (*command, '-s', '-S', '-c')
    if snippet is START_UP:
        return best_count(tool, (*command, snippet.code))
    counts = []
    for loops in (snippet.loops, 3 * snippet.loops):
        program = PROGRAM.format(setup=snippet.setup, code=snippet.code,
                                 loops=loops)
        counts.append(best_count(tool, (*command, program)))
    if not all(counts):
        return {}
    counts[1].subtract(counts[0])
    return {function: value / (2 * snippet.loops)
            for function, value in counts[1].items()}


def differences(base, ours, most=6):
    """Return [[function, base, ours]], those that differ most first."""
    rows = [[function, base.get(function, 0), ours.get(function, 0)]
            for function in {*base, *ours}]
    rows = [row for row in rows if abs(row[2] - row[1]) >= 0.5]
    return sorted(rows, key=lambda row: -abs(row[2] - row[1]))[:most]


def tracing(frames):
    """Return the options of an interpreter that traces."""
    return '-X', f'tracemalloc={frames}'


def compare(tool, base, ours, rows, jobs, progress):
    """Count every snippet under both commands, and start-up.

    `rows` gets, in the order of SNIPPETS, a dict of each: 'name', 'base',
    'ours' (instructions per loop, 0 where they could not be counted) and
    'functions', see differences().
    """
    order = [snippet.name for snippet in (*SNIPPETS, START_UP)]

    def one(snippet):
        old, new = (per_loop(tool, command, snippet)
                    for command in (base, ours))
        return {'name': snippet.name, 'base': sum(old.values()),
                'ours': sum(new.values()),
                'functions': differences(old, new)}

    def done(row):
        rows.append(row)
        rows.sort(key=lambda row: order.index(row['name']))
        progress(row['name'])

    measure.run_jobs([(one, snippet) for snippet in (*SNIPPETS, START_UP)],
                     jobs, done)


def mean(rows):
    """Return the geometric mean of the ratios, or None without any."""
    pairs = [row['ours'] / row['base'] for row in rows
             if row['base'] and row['ours']]
    return summary.geometric_mean(pairs) if pairs else None


def costly(rows):
    """Return the names of the rows over the limit, or not counted."""
    return [row['name'] for row in rows
            if not row['base'] or not row['ours']
            or row['ours'] > row['base'] * (1 + LIMIT / 100)]
