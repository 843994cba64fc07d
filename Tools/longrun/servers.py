"""The packages, and a service as a process of its own."""

import os
import pathlib
import select
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = {'aiohttp': 'aiohttp_service.py', 'wsgi': 'wsgi_service.py'}
REQUIREMENTS = HERE / 'requirements.txt'
START = 60                        # seconds to begin serving
END = 10                          # and to end
INSTALL = 600


class Failure(Exception):
    """One line, for the user."""


def packages(stock, place):
    """Return the folder with the packages, installed if they are not there.

    They go into a virtual environment of stock CPython's; both interpreters
    load the same files, compiled modules as well.
    """
    wanted = f'{stock}\n{REQUIREMENTS.read_text()}'
    key = place / 'installed'
    if not key.exists() or key.read_text() != wanted:
        _install([stock, '-m', 'venv', '--clear', place])
        _install([place / 'bin' / 'python', '-m', 'pip', 'install',
                  '--quiet', '--disable-pip-version-check', '--no-deps',
                  '--only-binary=:all:', '-r', REQUIREMENTS])
        key.write_text(wanted)
    folder, = place.glob('lib/python*/site-packages')
    return folder


def _install(command):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True,
                              text=True, timeout=INSTALL,
                              env=_environment(None))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f'cannot install the packages: {error}') from None
    if done.returncode:
        last = done.stderr.strip().rpartition('\n')[2]
        raise Failure(f'cannot install the packages: {last}')


def _environment(folder):
    result = {name: value for name, value in os.environ.items()
              if not name.startswith(('PYTHON', 'PYTRACEMALLOC'))}
    if folder is not None:
        result |= {'PYTHONPATH': str(folder), 'PYTHONHASHSEED': '0',
                   'PYTHONDONTWRITEBYTECODE': '1'}
    return result


class Server:
    """A running service; use it in a with statement.

    Ctrl-C does not reach it. But however this program ends, the service ends
    too, when its standard input is closed.
    """

    def __init__(self, name, python, service, folder, work, frames=None,
                 snapshots=None, runner=()):
        """*runner*: arguments of Python before the script."""
        self.name = name
        self.samples = work / f'{name}.samples' if frames else None
        self.log = work / f'{name}.log'
        self.resident = []                    # bytes, one a tick
        command = [python, *runner]
        if frames:
            command += ['-X', f'tracemalloc={frames}']
        command += [HERE / SERVICES[service], work / f'{name}.sqlite']
        if frames:
            command += [self.samples, snapshots]
        with open(self.log, 'w') as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
                env=_environment(folder), process_group=0)
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def port(self):
        """Return the port, as soon as the service has one."""
        ready = select.select([self._process.stdout], [], [], START)[0]
        line = self._process.stdout.readline() if ready else b''
        try:
            return int(line)
        except ValueError:
            raise Failure(f'{self.name}: the service did not start: '
                          f'{self._last_words()}') from None

    def _last_words(self):
        text = self.log.read_text(errors='replace').strip()
        return text.rpartition('\n')[2] or f'no port in {START} s'

    def tick(self):
        """Note resident memory; raise Failure if the service has ended."""
        if self._process.poll() is not None:
            raise Failure(f'{self.name}: the service ended with status '
                          f'{self._process.returncode}: '
                          f'{self._last_words()}')
        statm = pathlib.Path(f'/proc/{self.pid}/statm').read_text()
        self.resident.append(int(statm.split()[1])
                             * os.sysconf('SC_PAGE_SIZE'))

    def processor(self):
        """Seconds of processor time so far."""
        stat = pathlib.Path(f'/proc/{self.pid}/stat').read_text()
        fields = stat.rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def machine_busy():
    """Seconds that all processors of the machine were busy so far."""
    fields = pathlib.Path('/proc/stat').read_text().split('\n')[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return ((user + nice + system + irq + softirq + steal)
            / os.sysconf('SC_CLK_TCK'))


def own_processor():
    return sum(os.times()[:2])


