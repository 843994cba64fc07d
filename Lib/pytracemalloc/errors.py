"""How a command ends early: one line on stderr and an exit status."""

FAILURE = 1
USAGE = 2


class CommandError(Exception):
    """Something the user can mend; the text says what, where and how."""

    status = FAILURE


class UsageError(CommandError):
    """The command line asks for something that does not exist."""

    status = USAGE
