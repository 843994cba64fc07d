"""A terminal taken over for a view, which reads single keys.  It is restored
at the end, when the view is stopped (Control-Z) and when a signal ends it."""

import codecs
import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty

_OPEN = '\x1b[?1049h\x1b[?25l'    # the other screen, no cursor
_CLOSE = '\x1b[?25h\x1b[?1049l'
RESIZED = 'resized'


class Screen:
    """A context manager; must be used in the main thread."""

    def __init__(self):
        self._input = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._input)
        self._handlers = {}
        self._wakes = self._woken = None

    def __enter__(self):
        # A signal wakes select() by a byte in this pipe.
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        for number, handler in ((signal.SIGWINCH, lambda *args: None),
                                (signal.SIGTSTP, self._stop),
                                (signal.SIGTERM, self._end),
                                (signal.SIGHUP, self._end)):
            self._handlers[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(OSError, termios.error):
            self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._wakes)
        os.close(self._woken)

    def _take(self):
        tty.setcbreak(self._input)
        _write(_OPEN)

    def _give_back(self):
        _write(_CLOSE)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def _stop(self, number, frame):
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # In the foreground again, perhaps with another size.
        signal.signal(number, self._stop)
        self._take()

    def _end(self, number, frame):
        sys.exit(128 + number)

    def size(self):
        """Return (columns, lines)."""
        return shutil.get_terminal_size()

    def draw(self, lines, styles):
        """Draw a page; *styles*: index of a line -> escape sequence."""
        columns = self.size().columns
        lines = [f'{styles[index]}{line:{columns}}\x1b[0m'
                 if index in styles else line
                 for index, line in enumerate(lines)]
        encoding = sys.stdout.encoding or 'ascii'
        text = '\x1b[H' + '\r\n'.join(line + '\x1b[K' for line in lines)
        _write(text.encode(encoding, 'replace').decode(encoding) + '\x1b[J')

    def read_key(self, seconds):
        """Return a key, 'q' at the end of the input, RESIZED if the screen
        must be drawn again, None if nothing happens in time."""
        ready = select.select([self._input, self._woken], [], [],
                              max(0, seconds))[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
            return RESIZED
        if not ready:
            return None
        return os.read(self._input, 1).decode('ascii', 'replace') or 'q'

    def ask(self, prompt, show):
        """Read a line at the bottom of the screen; Escape: nothing.

        *show* makes the typed text safe to show.
        """
        text = ''
        decoder = codecs.getincrementaldecoder('utf-8')('replace')
        while True:
            columns, rows = self.size()
            line = f'{prompt}{show(text)}'[-columns:]
            _write(f'\x1b[{rows};1H{line}\x1b[K')
            byte = os.read(self._input, 1)
            key = decoder.decode(byte)
            if key in ('\r', '\n'):
                return text
            if key == '\x1b' or not byte:
                return ''
            text = text[:-1] if key in ('\x7f', '\b') else text + key


def _write(text):
    sys.stdout.write(text)
    sys.stdout.flush()
