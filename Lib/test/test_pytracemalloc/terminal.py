"""A program on a terminal of its own, its keys and its screen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

_ESCAPES = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')


def _own_terminal():
    """Keys such as Control-C become signals of the processes here."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """`python -m pytracemalloc ARGS`, or another program, on a terminal; a
    context manager."""

    def __init__(self, *args, columns=80, lines=24, program=(
            sys.executable, '-m', 'pytracemalloc'), environment=os.environ,
            **options):
        self.master, slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(slave)
        environment = {name: value for name, value in environment.items()
                       if name not in ('COLUMNS', 'LINES')}
        environment |= {'PYTHONIOENCODING': 'utf-8', 'TERM': 'xterm'}
        self.process = subprocess.Popen(
            [*program, *args], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=_own_terminal,
            env=environment, **options)
        self.slave = slave
        self.output = ''

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack('4H', lines, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def _read(self, seconds):
        while select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.output += os.read(self.master, 65536).decode()
                seconds = 0.05
                continue
            return

    def page(self):
        """Return the lines of the last page that was drawn."""
        page = self.output.rpartition('\x1b[H')[2]
        return _ESCAPES.sub('', page).replace('\r', '').split('\n')

    def wait_for(self, pattern, seconds=30):
        """Return the first page that has a line which matches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.2)
            page = self.page()
            if any(re.search(pattern, line) for line in page):
                return page
        raise AssertionError(f'no {pattern!r} in {self.page()}')

    def end(self, seconds=30):
        """Return (exit status, all that was written, without escapes)."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        self._read(0.05)
        return self.process.returncode, _ESCAPES.sub('', self.output)

    def is_restored(self):
        """True if the terminal echoes again and shows its cursor."""
        return (termios.tcgetattr(self.slave) == self.before
                and self.output.rfind('\x1b[?25h')
                > self.output.rfind('\x1b[?25l')
                and self.output.rfind('\x1b[?1049l')
                > self.output.rfind('\x1b[?1049h'))
