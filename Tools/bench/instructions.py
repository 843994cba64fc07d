"""Instructions per operation, untraced, ours against stock.

A clock on a shared machine cannot see half a percent; a count can.  Each
snippet runs with N loops and with 3N, and the difference over 2N is free of
start-up.  Hash seed and addresses are fixed.  Valgrind counts; where there is
none, perf does, if the processor lets it.  For a snippet that costs more than
it may, Valgrind also says in which functions.

The snippets take the paths that the patches touch: each free list, each
allocator and size range, frames, generators, code objects.
"""

import collections
import dataclasses
import os
import re
import shutil
import subprocess
import tempfile

import summary
from measure import clean_environment

LIMIT = 0.5     # percent that the set may cost more than stock


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

PROGRAM = '''
def main(n):
    {setup}
    for _ in range(n):
        {code}
main({loops})
'''


def counter():
    """Return the command that counts, or None where nothing does."""
    if shutil.which('valgrind'):
        return ('valgrind', '--tool=cachegrind', '--cache-sim=no')
    if shutil.which('perf'):
        perf = ('perf', 'stat', '-x,', '-e', 'instructions:u')
        if count(perf, ('true',)):
            return perf
    return None


def count(tool, command):
    """Return the user-mode instructions of a command by function.

    perf knows no functions: it gives one, called 'all'.  Empty on failure.
    """
    with tempfile.TemporaryDirectory(prefix='bench-') as work:
        out = os.path.join(work, 'counts')
        if tool[0] == 'valgrind':
            tool = (*tool, '--cachegrind-out-file=' + out)
        done = subprocess.run([*tool, *command], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL,
                              timeout=600,
                              env=clean_environment())
        counts = collections.Counter()
        if done.returncode:
            return counts
        if tool[0] != 'valgrind':
            found = re.search(r'^(\d+),', done.stderr, re.MULTILINE)
            return collections.Counter(all=int(found[1]) if found else 0)
        with open(out) as file:
            for line in file:
                if line.startswith('fn='):
                    function = line[3:].strip()
                elif line[0].isdigit():
                    counts[function] += int(line.split()[1])
        return counts


def per_loop(tool, python, snippet):
    """Return {function: instructions of one loop}, start-up excluded."""
    counts = []
    for loops in (snippet.loops, 3 * snippet.loops):
        program = PROGRAM.format(setup=snippet.setup, code=snippet.code,
                                 loops=loops)
        counts.append(count(tool, (python, '-s', '-S', '-c', program)))
    if not all(counts):
        return {}
    counts[1].subtract(counts[0])
    return {function: value / (2 * snippet.loops)
            for function, value in counts[1].items()}


def differences(stock, ours, most=6):
    """Return [[function, stock, ours]], those that differ most first."""
    rows = [[function, stock.get(function, 0), ours.get(function, 0)]
            for function in {*stock, *ours}]
    rows = [row for row in rows if abs(row[2] - row[1]) >= 0.5]
    return sorted(rows, key=lambda row: -abs(row[2] - row[1]))[:most]


def compare(stock, ours, progress=lambda name: None):
    """Count every snippet in both interpreters.

    Return None where nothing can count, or {'tool', 'mean', 'rows',
    'start_up'}: each row has 'name', 'stock', 'ours' (instructions per loop)
    and 'functions' (see differences()); start_up is [stock, ours]; mean is
    the geometric mean of the ratios.
    """
    tool = counter()
    if tool is None:
        return None
    rows = []
    for snippet in SNIPPETS:
        progress(snippet.name)
        base, mine = (per_loop(tool, python, snippet)
                      for python in (stock, ours))
        rows.append({'name': snippet.name, 'stock': sum(base.values()),
                     'ours': sum(mine.values()),
                     'functions': differences(base, mine)})
    start_up = [sum(count(tool, (python, '-s', '-S', '-c', 'pass')).values())
                for python in (stock, ours)]
    pairs = [row['ours'] / row['stock'] for row in rows
             if row['stock'] and row['ours']]
    return {'tool': tool[0], 'rows': rows, 'start_up': start_up,
            'mean': summary.geometric_mean(pairs) if pairs else None}


def passes(report):
    """True if all snippets could be counted and their mean is in the limit."""
    return (all(row['stock'] and row['ours'] for row in report['rows'])
            and report['mean'] <= 1 + LIMIT / 100)
