"""The command line: one parser a sub-command, one line for each error."""

import argparse
import sys

import _tracemalloc
from pytracemalloc.command import run
from pytracemalloc.commands import COMMANDS, TRACING, load_command
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.program import split
from pytracemalloc.terminal import say

_DESCRIPTION = """\
Run a program and see where its memory goes: exactly, by line, function,
module and type, live, at the peak and in total.
"""
_EPILOG = """\
examples:
  pytracemalloc demo                        find a leak, and see how
  pytracemalloc run app.py --port 80        run app.py, write a snapshot
  pytracemalloc report app.tracemalloc -o app.html
  pytracemalloc diff monday.tracemalloc friday.tracemalloc
  pytracemalloc why app.tracemalloc app.py:4
  pytracemalloc top 1234                    watch a running program
  pytracemalloc start 1234                  trace one that runs already
  pytracemalloc snapshot 1234
  pytracemalloc diff old.tracemalloc new.tracemalloc --fail-above 5%
"""


class _Parser(argparse.ArgumentParser):
    takes_program = False

    def __init__(self, **kwargs):
        kwargs.setdefault('formatter_class',
                          argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        command = None
        if self.takes_program:
            args, command = split(self, args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if command is not None:
            namespace.command_line = command
        if unknown:
            self.error(f'unrecognized arguments: {" ".join(unknown)}')
        return namespace, unknown

    def _print_message(self, message, file=None):
        # Of argparse, but a failure to write is one.
        file = file or sys.stdout
        file.write(message)
        file.flush()

    def error(self, message):
        raise UsageError(f'{message} (see {self.prog} --help)')


def make_parser(prog='pytracemalloc'):
    parser = _Parser(prog=prog, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument('--version', action='version', version=_version())
    commands = parser.add_subparsers(dest='command', metavar='COMMAND',
                                     title='commands', required=True)
    for name in COMMANDS:
        command = load_command(name)
        sub = commands.add_parser(
            name, help=command.HELP, description=command.DESCRIPTION,
            epilog=command.EPILOG.replace('%(prog)s', f'{prog} {name}'))
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _version():
    return (f'pytracemalloc {_tracemalloc.__version__}, '
            f'Python {sys.version.split()[0]}')


def main(argv=None, prog='pytracemalloc'):
    """Run the command of *argv*; return the exit status."""
    return run(lambda: _run(argv, prog), say)


def _run(argv, prog):
    args = make_parser(prog).parse_args(argv)
    # A package that only reads snapshots has something else in its place.
    if args.command in TRACING and hasattr(_tracemalloc, 'IS_ABSENT'):
        raise CommandError(
            f'{args.command}: {sys.executable} has no tracer; install the '
            f'interpreter of pytracemalloc, and use its command')
    return args.run(args)
