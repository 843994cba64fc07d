"""What the interpreter's start-up calls if the command line or the
environment asks for something that is written in Python."""

import os
import sys


def run():
    """Start what is asked for; never raise."""
    environment = {} if sys.flags.ignore_environment else os.environ
    path = sys._xoptions.get('tracemalloc_control',
                             environment.get('PYTRACEMALLOC_CONTROL'))
    if path and path is not True and not _is_command():
        from tracemalloc import control
        control.serve_at_startup(path)
    if 'PYTRACEMALLOC_RUN' in environment:
        from pytracemalloc import recording
        recording.start()


def _is_command():
    """True in `pytracemalloc`, which looks at the program of the variable."""
    first = next((argument for argument in sys.orig_argv[1:]
                  if not argument.startswith('-')), '')
    return os.path.basename(first) == 'pytracemalloc'
