"""How every command ends: an exit status, and one line for what is wrong."""

import os
import sys

from pytracemalloc.errors import FAILURE, CommandError
from pytracemalloc.terminal import ClosedOutput, silence_output

_INTERRUPTED = 130


def run(command, say):
    """Call command(); return the exit status, which may be its result.

    say(text) writes what is wrong.  If the reader of the output has closed it,
    it has seen enough: then only the status says that the output is
    incomplete.
    """
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w')
    status = FAILURE
    try:
        result = command()
        sys.stdout.flush()
        return result or 0
    except CommandError as exc:
        problem, status = str(exc), exc.status
    except BrokenPipeError:
        silence_output()
        return status
    except OSError as exc:
        silence_output()
        where = exc.filename or 'standard output'
        problem = f'{where}: {exc.strerror or exc}'
    except MemoryError:
        problem = ('not enough memory; filter with --include, or take '
                   'snapshots without traces')
    except KeyboardInterrupt:
        return _INTERRUPTED
    say(problem)
    return status
