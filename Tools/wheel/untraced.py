"""In place of the tracer, where the interpreter has none.

Nothing is traced, and nothing need be hidden.  Whatever else is called says
what is missing.
"""

__version__ = '@VERSION@'
IS_ABSENT = True


def _hidden(function):
    return function


_shown = _hidden


def is_tracing():
    return False


class _Absent:
    """A function of the tracer, or a number."""

    def __init__(self, name):
        self._name = name

    def __call__(self, *args, **kwargs):
        raise RuntimeError(f'{self._name}() needs the tracer, which this '
                           f'Python does not have; use the interpreter of '
                           f'pytracemalloc')


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return globals().setdefault(name, _Absent(name))
