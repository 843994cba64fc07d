"""Called by the interpreter's start-up, if the command line or the environment
asks for a service that is written in Python."""

import os
import sys

from _tracemalloc import _import_apart


def run(module, script, known):
    """Start what is asked for; never raise.

    *module*, *script*: what the interpreter is going to run, or None.
    *known*: the modules that it has imported.
    """
    environment = {} if sys.flags.ignore_environment else os.environ
    is_program = not _is_command(module, script)
    interval = sys._xoptions.get('tracemalloc_history',
                                 environment.get('PYTRACEMALLOC_HISTORY'))
    if interval and is_program:
        from tracemalloc.history import start_at_startup
        start_at_startup(interval)
    path = sys._xoptions.get('tracemalloc_control',
                             environment.get('PYTRACEMALLOC_CONTROL'))
    if path and path is not True and is_program:
        from pytracemalloc import control
        control.serve_at_startup(path)
        known = None              # its thread needs what it imports
    if 'PYTRACEMALLOC_RUN' in environment:
        recording = _load() if known is None else _import_apart(_load)
        recording.start(known)


def _load():
    import tracemalloc
    from pytracemalloc import recording
    # It takes a while, and nothing is traced yet.
    tracemalloc._prepare()
    return recording


def _is_command(module, script):
    """True in the command `pytracemalloc`: the variable is meant for programs
    that it looks at."""
    return (module or '').partition('.')[0] == 'pytracemalloc' \
        or os.path.basename(script or '') == 'pytracemalloc'
