"""What the terminal can show: its width, a message, a progress bar, a
sparkline."""

import contextlib
import errno
import io
import os
import shutil
import sys

from tracemalloc.printable import printable

_BLOCKS = '▁▂▃▄▅▆▇█'
_ASCII_BLOCKS = '_.-=+*%#'


def width_of(file):
    """Return the number of columns, or None if *file* is not a terminal."""
    try:
        if not file.isatty():
            return None
        if not os.environ.get('COLUMNS'):
            # shutil would look at standard output, which may be no terminal.
            with contextlib.suppress(OSError):
                return os.get_terminal_size(file.fileno()).columns or 80
        return shutil.get_terminal_size().columns
    except (AttributeError, OSError, ValueError):
        return None


def shorten(text, width):
    """Return the end of *text*, in *width* columns."""
    if len(text) <= width:
        return text
    return '…' + text[len(text) - width + 1:] if width > 1 else text[:width]


def say(text, title='pytracemalloc'):
    """Write a message, which is one line, to standard error."""
    with contextlib.suppress(OSError):
        print(f'{title}: {printable(text)}', file=sys.stderr)


def can_encode(file, text):
    try:
        text.encode(file.encoding or 'ascii')
    except (UnicodeEncodeError, LookupError, AttributeError):
        return False
    return True


def sparkline(values, width, unicode=True):
    """Draw the last *width* values between 0 and their maximum."""
    blocks = _BLOCKS if unicode else _ASCII_BLOCKS
    values = list(values)[-width:]
    top = max(values, default=0) or 1
    return ''.join(blocks[min(len(blocks) - 1, value * len(blocks) // top)]
                   for value in values)


class Progress:
    """A bar on stderr while something takes longer than a second.

    Nothing is written before that, or if stderr is not a terminal.  A thread
    draws it, so that the work need not call anything.
    """

    def __init__(self, title, file=None, delay=1.0):
        self.title = printable(title)
        self.file = sys.stderr if file is None else file
        self.delay = delay
        self._done = self._total = 0
        self._ended = self._thread = None

    def __enter__(self):
        if width_of(self.file) is not None:
            # Here: a recorded program imports this module, not its threads.
            import threading
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc_info):
        if self._thread is not None:
            self._ended.set()
            self._thread.join()

    def track(self, items):
        """Yield the items of a list; the bar shows how many are done."""
        self._total = len(items)
        for self._done, item in enumerate(items):
            yield item
        self._total = 0

    def _run(self):
        wait = self.delay
        shown = False
        while not self._ended.wait(wait):
            shown = self._write(self._line()) or shown
            wait = 0.1
        if shown:
            self._write('')

    def _line(self):
        width = (width_of(self.file) or 2) - 1
        percent = 100 * self._done // self._total if self._total else None
        line = self.title + (' ...' if percent is None else f' {percent:3}% ')
        if percent is not None:
            room = max(0, width - len(line))
            line += ('#' * (room * percent // 100)).ljust(room, '.')
        return line[:width]

    def _write(self, line):
        try:
            self.file.write(f'\r{line}\x1b[K' if line else '\r\x1b[K')
            self.file.flush()
        except (OSError, ValueError):
            return False
        return True


class ClosedOutput(io.TextIOBase):
    """What standard output is if the command was started without one."""

    def write(self, text):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    @property
    def buffer(self):
        return self


def silence_output():
    """Keep the interpreter from flushing, at its end, output that cannot be
    written."""
    with contextlib.suppress(OSError, ValueError), \
            open(os.devnull, 'wb') as null:
        os.dup2(null.fileno(), sys.stdout.fileno())
