"""What the terminal can show: its width, a progress bar, a sparkline."""

import os
import shutil
import sys
import time

_BLOCKS = '▁▂▃▄▅▆▇█'
_ASCII_BLOCKS = '_.-=+*%#'


def width_of(file):
    """Return the number of columns, or None if *file* is not a terminal."""
    try:
        if not file.isatty():
            return None
        return shutil.get_terminal_size().columns
    except (AttributeError, OSError, ValueError):
        return None


def shorten(text, width):
    """Return the end of *text*, in *width* columns."""
    if len(text) <= width:
        return text
    return '…' + text[len(text) - width + 1:] if width > 1 else text[:width]


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
    """A line on stderr while something takes longer than a second.

    Nothing is written before that, nor if stderr is not a terminal.
    """

    def __init__(self, title, file=None, delay=1.0):
        self.title = title
        self.file = sys.stderr if file is None else file
        self.next = time.monotonic() + delay
        self.shown = False
        self.width = width_of(self.file)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if self.shown:
            self._write('\r' + ' ' * (self.width - 1) + '\r')

    def update(self, fraction):
        """Say how much is done, 0 to 1."""
        if self.width is None or time.monotonic() < self.next:
            return
        self.next = time.monotonic() + 0.1
        self.shown = True
        room = max(0, self.width - len(self.title) - 9)
        done = int(room * fraction)
        line = f'{self.title} {100 * fraction:3.0f}% {"#" * done}'
        self._write('\r' + line[:self.width - 1])

    def _write(self, text):
        try:
            self.file.write(text)
            self.file.flush()
        except OSError:
            self.width = None


def silence_closed_pipe():
    """Keep the interpreter from flushing into a pipe nobody reads."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
