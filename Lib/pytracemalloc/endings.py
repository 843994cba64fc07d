"""The ends of a process that atexit does not see: signals and os._exit().

SIGTERM and SIGHUP ask a program to end.  If their action is the default one, a
handler writes the report first, and then the default action follows.  The
program's own handlers stay as they are.  SIGQUIT still ends a program at once,
and SIGINT raises KeyboardInterrupt as usual.

Child processes keep the default action.  Python calls a handler between two
instructions, so a signal that arrives right before a blocking call is noticed
only when the call returns.  multiprocessing ends its workers at such moments,
and would wait for them for ever.
"""

import _thread
import os
import signal

_REQUESTS = signal.SIGTERM, signal.SIGHUP


class Endings:
    """Calls *finish* before the process ends in one of these ways.

    Enter it as a context manager while a file is written: a signal then waits
    until the file is complete.
    """

    def __init__(self, finish):
        self._finish = finish
        self._leave = os._exit
        self._busy = 0
        self._late = None         # the signal that came while busy
        self._mask = None         # the thread's, while busy
        self._forks = {}          # masks of the threads that fork

    def watch(self, signals):
        """*signals*: not only os._exit()."""
        os._exit = self._exit
        for number in _REQUESTS if signals else ():
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, self._obey)

    def unwatch(self):
        """Put back what watch() changed and the program has not."""
        if os._exit == self._exit:
            os._exit = self._leave
        self._unwatch_signals()

    def _unwatch_signals(self):
        for number in _REQUESTS:
            if signal.getsignal(number) == self._obey:
                signal.signal(number, signal.SIG_DFL)

    def before_fork(self):
        # The interpreter of the child forgets signals that came before it was
        # ready.  While they are blocked, they stay pending.
        self._forks[_thread.get_ident()] = signal.pthread_sigmask(
            signal.SIG_BLOCK, _REQUESTS)

    def after_fork(self):
        signal.pthread_sigmask(signal.SIG_SETMASK,
                               self._forks.pop(_thread.get_ident()))

    def forked(self, followed):
        """In the child, which has signals at their default action."""
        # The child does not go on with what the parent was doing.
        self._busy, self._late = 0, None
        if followed:
            self._unwatch_signals()
        else:
            self.unwatch()
        self.after_fork()

    def __enter__(self):
        if not self._busy:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
        self._busy += 1

    def __exit__(self, *exc_info):
        self._busy -= 1
        if not self._busy:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._late is not None and not self._busy:
            number, self._late = self._late, None
            self._obey(number, None)

    def _exit(self, status):
        self._finish()
        self._leave(status)

    def _obey(self, number, frame):
        if self._busy:
            self._late = number
            return
        self._finish()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # The signal does not end the first process of a container.
        self._leave(128 + number)
