"""How a command ends early: one line on stderr and an exit status; what to say
of an exception."""

FAILURE = 1
USAGE = 2
ABOVE = 3                         # of --fail-above: no error, but a finding


class CommandError(Exception):
    """Something the user can fix; the text says what, where and how."""

    status = FAILURE


class UsageError(CommandError):
    """The command line asks for something that does not exist."""

    status = USAGE


def reason_of(exc):
    """Return the text of an exception, which may have none."""
    if isinstance(exc, MemoryError):
        return 'not enough memory'
    return getattr(exc, 'strerror', None) or str(exc) or repr(exc)
