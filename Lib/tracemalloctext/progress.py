"""A line on the terminal that says what takes so long."""

import shutil
import sys
import threading

from tracemalloc.printable import printable


class Progress:
    """Show a message on stderr while something runs for over a second.

    Nothing is shown unless stderr is a terminal.  Used as a context manager;
    on exit the line is erased.
    """

    delay = 1.0

    def __init__(self, message, stream=None):
        self.message = printable(message)
        self.stream = sys.stderr if stream is None else stream
        self._timer = None
        self._lock = threading.Lock()
        self._shown = False
        self._done = False

    def __enter__(self):
        if self.stream is not None and self.stream.isatty():
            self._timer = threading.Timer(self.delay, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *exc_info):
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._done = True
            if self._shown:
                self.stream.write("\r\x1b[K")
                self.stream.flush()

    def _show(self):
        columns = shutil.get_terminal_size().columns
        with self._lock:
            if not self._done:
                self.stream.write(self.message[:max(columns - 1, 1)])
                self.stream.flush()
                self._shown = True
