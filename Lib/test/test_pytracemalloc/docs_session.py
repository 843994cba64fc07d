"""The shell and the Python that run the blocks of a page of documentation.

There is one of each for a page: a variable that one block sets is there in the
next, a program may run in the background, and all of it ends with the page.
Output goes to a file, so that nothing waits for what is still running.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

SECONDS = 60                    # for one request
MARK = re.compile(r'\n<<end of request, status (\d+)>>\n')
INSTALLED = re.compile(r'(/opt/mypython|\benv)/bin[/:]')


class _Session:
    def __init__(self, command, folder, output):
        # Opened twice: one offset to write at, one to read from.
        with open(output, 'a') as file:
            self._process = subprocess.Popen(
                command, cwd=folder, text=True, stdin=subprocess.PIPE,
                stdout=file, stderr=file, start_new_session=True)
        self._file = open(output, 'rb')
        self._position = 0

    def _ask(self, request, until=None):
        """Send a request; return (status, output).

        With a function *until*, wait for output for which it is true: that
        of a program in the background comes later.
        """
        self._process.stdin.write(request)
        self._process.stdin.flush()
        deadline = time.monotonic() + SECONDS
        while True:
            ended = self._process.poll() is not None
            self._file.seek(self._position)
            text = self._file.read().decode(errors='replace')
            mark = MARK.search(text)
            output = MARK.sub('', text)
            late = ended or time.monotonic() > deadline
            if late or (mark and (until is None or until(output))):
                self._position = self._file.tell()
                return (int(mark[1]) if mark else 1), output
            time.sleep(0.005)

    def close(self):
        """End all that the session has started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.stdin.close()
        self._process.wait()
        self._file.close()


class Shell(_Session):
    def __init__(self, folder, output):
        super().__init__(['sh'], folder, output)
        self._status = 0

    def run(self, command, until=None):
        """Run a command; return (exit status, output)."""
        # In one shell, reading nothing, with $? as the last command left it.
        self._status, output = self._ask(
            f'(exit {self._status})\n'
            f'{{ {INSTALLED.sub("", command)}\n}} </dev/null\n'
            f'printf "\\n<<end of request, status %d>>\\n" $?\n', until)
        return self._status, output


class Python(_Session):
    def __init__(self, folder, output):
        # A light program: its memory is part of what pages show.
        program = pathlib.Path(__file__).with_name('docs_python.py')
        super().__init__([sys.executable, program], folder, output)

    def run(self, text, name='<stdin>', mode='single'):
        """Run a statement, or with mode "exec" a program; return (status,
        output), 1 if there was an exception."""
        return self._ask(f'{(name, mode, text)!r}\n')


def commands_of(text):
    """Return [(offset of the line, command, expected output)] of a block."""
    found = []
    for offset, line in enumerate(text.splitlines()):
        if line.startswith('$ '):
            found.append((offset, [line[2:]], []))
        elif not found:
            raise ValueError('a console block starts with "$ "')
        elif line.startswith('> ') and not found[-1][2]:
            found[-1][1].append(line[2:])
        elif found[-1][1][-1].endswith('\\') and not found[-1][2]:
            found[-1][1].append(line)
        else:
            found[-1][2].append(line)
    return [(offset, '\n'.join(command), '\n'.join(output))
            for offset, command, output in found]
