"""Inside a service: end when the program that has started it is gone.

Its end of a pipe, this process's standard input, is closed then, however it
ended.
"""

import os
import sys
import threading


def hold():
    threading.Thread(target=_wait, daemon=True, name='lifeline').start()


def _wait():
    sys.stdin.buffer.raw.read(1)
    os._exit(1)
