"""make check-field: services, a batch job and a test suite, with packages from
PyPI, and the answer that the tool must give for each in one command.

    run.py FOLDER [CASE ...]

FOLDER keeps the virtual environment.  Each service is looked at in two ways:
by the summary of `pytracemalloc run`, and through the control sockets of a
program that -X tracemalloc traces.  The figures of the line that leaks are
compared with what the program counts itself.  The programs of the folder
suspects are judged in all ways, those that need packages too.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import judge

HERE = pathlib.Path(__file__).parent
PROGRAMS = HERE / 'programs'
REQUESTS = 3000
BODY = b'one order, please: ' * 20
KEPT = len(BODY) + 1
# A bytes object: its header, and the byte that ends it.
BLOCK = KEPT + sys.getsizeof(b'')
SECONDS = 120


def environment(folder):
    """Return the interpreter of a virtual environment with the packages."""
    requirements = HERE / 'requirements.txt'
    key = folder / 'key'
    wanted = hashlib.sha256(requirements.read_bytes()
                            + sys.version.encode()).hexdigest()
    python = folder / 'bin' / 'python'
    if not key.exists() or key.read_text() != wanted:
        subprocess.run([sys.executable, '-m', 'venv', '--clear', folder],
                       check=True)
        subprocess.run([python, '-m', 'pip', 'install', '--quiet',
                        '--disable-pip-version-check', '--no-deps',
                        '--require-hashes', '--only-binary=:all:', '-r',
                        requirements], check=True)
        key.write_text(wanted)
    return str(python)


def line_of(path, mark):
    """Return 'FILE:LINE ' of the line that has the mark."""
    number, = (number for number, line
               in enumerate(path.read_text().splitlines(), 1)
               if line.endswith(f'# {mark}'))
    return f'{path.name}:{number} '


def expect(pattern, text, what):
    if not (match := re.search(pattern, text)):
        raise judge.Failed(f'{what}: {pattern} is not in\n{text}')
    return match


def equal(found, wanted, what):
    if found != wanted:
        raise judge.Failed(f'{what}: {found}, and not {wanted}')


# --- Services

def free_port():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, folder, port, **variables):
    """A service that answers; ends it, and gives what it has written."""
    log = open(folder / 'log', 'w+')
    process = subprocess.Popen(
        command, cwd=PROGRAMS, stdout=log, stderr=log,
        env={**os.environ, **variables})
    output = []
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                ask(port, 'kept')
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise judge.Failed(f'{command} does not answer: '
                                       + (folder / 'log').read_text())
                time.sleep(0.1)
        yield output
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()
    output.append((folder / 'log').read_text())


def ask(port, path='', data=None):
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/{path}', data,
                                SECONDS) as answer:
        return answer.read()


def order(port):
    """Send all orders; return {process: what it counts}."""
    for _ in range(REQUESTS):
        ask(port, data=BODY)
    counts = {}
    while sum(count['count'] for count in counts.values()) < REQUESTS:
        count = json.loads(ask(port, 'kept'))
        counts[count['process']] = count
    equal(sum(count['size'] for count in counts.values()), REQUESTS * KEPT,
          'the program counts')
    return counts


def check_service(python, name, command):
    """*command*: what follows `python`, with PORT for the port."""
    leak = line_of(PROGRAMS / f'{name}.py', 'leak')
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = pathlib.Path(name_of_folder)
        port = free_port()
        command = [part.replace('PORT', str(port)) for part in command]
        check_run(python, command, folder, port, leak)
        port_before, port = port, free_port()
        command = [part.replace(str(port_before), str(port))
                   for part in command]
        check_sockets(python, command, folder, port, leak)


def check_run(python, command, folder, port, leak):
    """The summary of each process names the leak and its rate."""
    with started([python, '-m', 'pytracemalloc', 'run', '--follow', '--every',
                  '1', '-o', folder / 'run.tracemalloc', *command], folder,
                 port) as output:
        counts = order(port)
    text, = output
    for process in counts:
        found = [line for line in judge.suspects(text) if leak in line]
        if not found:
            raise judge.Failed(f'the summary does not suspect {leak}: {text}')
        expect(r'grew in (each|\d+) of \d+ intervals, .* since \d\d:\d\d',
               found[0], 'the reason')
        written = [path for path in folder.glob('run*.tracemalloc')
                   if process_of(python, path) == process
                   and not re.search(r'\.0\d{3}\.', path.name)]
        equal(len(written), 1, f'snapshots of {process}')
        check_two(python, folder, process, written[0], leak)
        kept = rows_of(python, written[0], leak)
        equal(kept, (counts[process]['count'] * BLOCK,
                     counts[process]['count']), f'kept by {process}')


def process_of(python, path):
    return int(judge.call(
        python, '-c', 'import sys, tracemalloc; '
        'print(tracemalloc.Snapshot.load(sys.argv[1]).pid)', path,
        cwd=path.parent))


def check_two(python, folder, process, last, leak):
    """Two snapshots of a process: one of --every, and the last."""
    first = min(path for path in folder.glob('run*.0*.tracemalloc')
                if process_of(python, path) == process)
    text = judge.tool(python, 'diff', first, last, '--top', '20', cwd=folder)
    if not any(leak in line for line in judge.suspects(text)):
        raise judge.Failed(f'diff does not suspect {leak}: {text}')


def rows_of(python, path, leak):
    """Return size and count of the blocks at the line, those of orders."""
    text = judge.tool(python, 'report', path, '--format', 'json', '--by',
                      'type+line', '--top', '1000000', '-o', '-',
                      cwd=path.parent)
    file, line = leak.strip().split(':')
    return next((row['size'], row['count'])
                for row in json.loads(text)['statistics']
                if row['filename'].endswith(file)
                and row['lineno'] == int(line) and row['type'] == 'bytes')


def check_sockets(python, command, folder, port, leak):
    """`top DIRECTORY` has the leak of all processes together, and no socket
    stays behind."""
    sockets = folder / 'sockets'
    sockets.mkdir()
    with started([python, '-X', 'tracemalloc=10', *command], folder, port,
                 PYTRACEMALLOC_CONTROL=str(sockets)):
        counts = order(port)
        text = judge.tool(python, 'top', sockets, '--once', cwd=folder)
        row = expect(rf'(\S+ \S+) +([\d,]+) .*{re.escape(leak)}', text, 'top')
        # One more block, of the list that grows at the line.
        count = int(row[2].replace(',', ''))
        if not 0 <= count - REQUESTS <= len(counts):
            raise judge.Failed(f'top: {count} blocks, and not {REQUESTS}')
        for process in counts:
            text = judge.tool(python, 'top', process, '--once', cwd=folder)
            expect(re.escape(leak), text, f'top of {process}')
    equal(os.listdir(sockets), [], 'sockets left behind')


# --- The rest

def check_batch(python):
    """The peak is at the line that makes the table wider."""
    path = PROGRAMS / 'monthly.py'
    with tempfile.TemporaryDirectory() as folder:
        text = judge.tool(python, 'run', '-o', os.devnull, path, cwd=folder)
        row = expect(rf'At the peak:\n *(\S+) (\S+) .*'
                     rf'{re.escape(line_of(path, "peak"))}', text, 'the peak')
        counted = int(expect(r'peak of the job (\d+)', text, 'the job')[1])
        equal(f'{row[1]} {row[2]}', f'{counted / 2 ** 20:.1f} MiB',
              'memory at the peak')
        text = judge.call(python, '-X', 'tracemalloc=10', '-c',
                          'import runpy, sys, tracemalloc\n'
                          'runpy.run_path(sys.argv[1])\n'
                          'print(tracemalloc.get_traced_memory()[1])', path,
                          cwd=folder)
        if int(text.split()[-1]) < counted:
            raise judge.Failed('the peak of -X tracemalloc is too low')


def check_tests(python):
    """The test that leaves something behind fails, with the line."""
    path = PROGRAMS / 'test_orders.py'
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', path],
            cwd=folder, capture_output=True, text=True, timeout=SECONDS)
        expect(r'1 failed, 1 passed', process.stdout, 'pytest')
        # A list of 50 pointers, for each of 100 articles.
        size = 100 * sys.getsizeof([None] * 50)
        expect(rf'{size / 1024:.1f} KiB +\d+  \S*{line_of(path, "leak")}',
               process.stdout, 'the line')


def check_suspects(python):
    """All programs, in all ways."""
    folder = judge.FOLDER
    problems = []
    for path in sorted([*folder.glob('*_*.py'),
                        *folder.glob('packages/*.py')]):
        for way in judge.WAYS:
            for name, wrong in judge.judge(python, path, way):
                if wrong:
                    problems.append(f'{path.stem}, {name}: {wrong}')
    if problems:
        raise judge.Failed('\n'.join(problems))


CASES = {
    'flask': lambda python: check_service(python, 'shop_flask', [
        '-m', 'gunicorn', '-w', '2', '-b', '127.0.0.1:PORT',
        'shop_flask:app']),
    'aiohttp': lambda python: check_service(python, 'shop_aiohttp', [
        'shop_aiohttp.py', 'PORT']),
    'django': lambda python: check_service(python, 'shop_django', [
        'shop_django.py', 'PORT']),
    'batch': check_batch, 'tests': check_tests, 'suspects': check_suspects}


def main(folder, *cases):
    python = environment(pathlib.Path(folder).resolve())
    failed = 0
    for case in cases or CASES:
        begin = time.monotonic()
        try:
            CASES[case](python)
            result = 'right'
        except (judge.Failed, subprocess.TimeoutExpired) as exc:
            failed += 1
            result = exc
        print(f'{case}: {result} ({time.monotonic() - begin:.0f} s)',
              flush=True)
    return failed > 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
