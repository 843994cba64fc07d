"""Runs each program of the folder suspects in all ways that find suspected
leaks, and checks what the tool says.

In a program that leaks, the leaking lines are marked `# leak`.  If a library
allocates the leaked blocks, a comment `# leak: FILE` names its file.  One of
these lines must be among the suspects. FILE is a regular expression. A program
without a mark must
have no suspect.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).parent / 'suspects'
LAUNCHER = ('import subprocess, sys; '
            'sys.exit(subprocess.run([sys.executable, *sys.argv[1:]])'
            '.returncode)')
SECONDS = 300


class Failed(Exception):
    """A command has ended with another status than 0."""


def call(python, *args, cwd, **variables):
    """Return what a command writes, both streams together."""
    process = subprocess.run(
        [python, *map(str, args)], cwd=cwd, timeout=SECONDS, text=True,
        env={**os.environ, 'PYTHONPATH': str(FOLDER), **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.returncode != 0:
        raise Failed(f'status {process.returncode}: {process.stdout[-2000:]}')
    return process.stdout


def tool(python, *args, **options):
    return call(python, '-m', 'pytracemalloc', *args, **options)


def suspects(text):
    """Return the lines of a summary or a report that name suspects."""
    found = re.findall(r'suspected leak: (.*)', text)
    _, _, rest = text.partition('Suspected leaks (or data still being built):\n')
    for line in rest.splitlines():
        if not line.startswith(' '):
            break
        found.append(line)
    return found


# --- The ways; each returns the names of what was judged and the suspects

def one_run(python, path, folder):
    text = tool(python, 'run', '--top', '20', '-o', os.devnull, path,
                cwd=folder)
    yield 'one run', suspects(text)


def worker(python, path, folder):
    """The summary of a worker, and two snapshots that it takes."""
    text = tool(python, 'run', '--follow', '--top', '20', '-o',
                'all.tracemalloc', '-c', LAUNCHER, path, cwd=folder,
                SNAPSHOTS=str(folder))
    yield 'a worker', re.findall(r'suspected leak: (.*)', text)
    text = tool(python, 'diff', 'half.tracemalloc', 'whole.tracemalloc',
                '--top', '20', cwd=folder)
    yield 'two snapshots', suspects(text)


def every(python, path, folder):
    text = tool(python, 'run', '--every', '1', '--top', '20', '-o',
                'every.tracemalloc', path, cwd=folder, FACTOR='6')
    yield '--every', suspects(text)
    files = sorted(pathlib.Path(folder).glob('every.0*.tracemalloc'))
    if len(files) > 2:
        # Neither at the beginning nor at the end of the program.
        text = tool(python, 'diff', files[0], files[-2], '--top', '20',
                    cwd=folder)
        yield 'two snapshots of --every', suspects(text)


WAYS = {'one': one_run, 'worker': worker, 'every': every}


def marks(path):
    """Return patterns, one of which has to match a suspect; none: none may
    be suspected."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.fullmatch(r'# leak: (\S+)', line):
            found.append(rf'{match[1]}:\d+ ')
        elif line.endswith('# leak'):
            found.append(rf'{re.escape(path.name)}:{number} ')
    return found


def judge(python, path, way):
    """Yield (how it was judged, what is wrong or None)."""
    expected = marks(path)
    with tempfile.TemporaryDirectory() as folder:
        for name, found in WAYS[way](python, path, folder):
            listed = ''.join(f'\n    {line}' for line in found) or ' none'
            wrong = None
            if expected and not any(re.search(mark, line) for mark in expected
                                    for line in found):
                wrong = f'the leak is not among the suspects:{listed}'
            elif found and not expected:
                wrong = f'nothing leaks, but there are suspects:{listed}'
            yield name, wrong


def main(arguments):
    """judge.py [WAY ...] [PROGRAM ...]: all ways and programs by default."""
    ways = [name for name in arguments if name in WAYS] or list(WAYS)
    names = [name for name in arguments if name not in WAYS]
    paths = [FOLDER / f'{name}.py' for name in names] or sorted(
        [*FOLDER.glob('leak_*.py'), *FOLDER.glob('sound_*.py')])
    failed = 0
    for path in paths:
        for way in ways:
            for name, wrong in judge(sys.executable, path, way):
                failed += wrong is not None
                print(f'{path.stem}, {name}: {wrong or "right"}', flush=True)
    return failed > 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
