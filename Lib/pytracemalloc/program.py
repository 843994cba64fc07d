"""The program of a command line, and how this process becomes it.

The interpreter replaces this process by itself with the program's own command
line, so that arguments, standard input, signals and the exit status are those
of `python SCRIPT`.  What is to be recorded goes through the environment, to
recording.py in the new interpreter.
"""

import argparse
import json
import os
import subprocess
import sys

from pytracemalloc import recording
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.terminal import say

_MEANT_FOR = 'LISTEN_PID', 'WATCHDOG_PID'      # a process id


def add_program_arguments(parser):
    """Declare the program, for --help; split() takes it off."""
    parser.takes_program = True
    program = parser.add_mutually_exclusive_group()
    program.add_argument('-m', metavar='MODULE', help='run a module as a '
                         'script; all that follows is its own')
    program.add_argument('-c', metavar='CODE', help='run a string')
    program.add_argument('script', metavar='SCRIPT', nargs='?',
                         help='the program: a file, a directory or zip file '
                         'with a __main__.py, or - for standard input')
    parser.add_argument('arguments', metavar='ARGS', nargs=argparse.REMAINDER,
                        help='arguments of the program')


def split(parser, arguments):
    """Return (options of the parser, the program's command line).

    argparse would take a -- that is the program's.
    """
    takes_value = False
    for index, argument in enumerate(arguments):
        if takes_value:
            takes_value = False
        elif (argument in ('-', '--') or not argument.startswith('-')
              or argument.startswith(('-m', '-c'))):
            return arguments[:index], arguments[index:]
        else:
            takes_value = _takes_value(parser, argument)
    return arguments, []


def _takes_value(parser, argument):
    """True if the next argument is the value of this option."""
    actions = parser._option_string_actions
    if argument.startswith('--'):
        return argument in actions and actions[argument].nargs is None
    for index, letter in enumerate(argument[1:], 2):
        action = actions.get(f'-{letter}')
        if action is None or action.nargs is None:
            return action is not None and index == len(argument)
    return False


def check_program(command):
    """Return a name for the files of a program that is there."""
    script_only = command[:1] == ['--']       # as python takes it
    command = command[script_only:]
    if not command:
        raise UsageError('no program; give a script, -m MODULE or -c CODE')
    flag, value = command[0][:2], command[0][2:]
    if flag in ('-m', '-c') and not script_only:
        if not value and len(command) == 1:
            raise UsageError(f'{flag} needs an argument')
        module = value or command[1]
        return module.rpartition('.')[2] if flag == '-m' else 'code'
    script = command[0]
    if script == '-':
        return 'stdin'
    if not os.path.exists(script.rstrip('/') or '/'):
        raise CommandError(f'{script}: no such file; give a script, '
                           f'-m MODULE or -c CODE')
    return os.path.basename(os.path.abspath(script)).removesuffix('.py')


def execute(command, options):
    """Become the interpreter that runs the command and records it."""
    options['pid'] = os.getpid()
    environment = {**os.environ, recording.VARIABLE: json.dumps(options)}
    # A service manager means the process that it has started.
    for name in _MEANT_FOR:
        if environment.get(name) == str(options.get('holder')):
            environment[name] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    python = _interpreter()
    os.execve(python, [python, *_flags(), *command], environment)


def _interpreter():
    """Return this Python, as a virtual environment of it has it: the one that
    has a link to the command, or else the active one.

    bin/pytracemalloc starts the one that is installed, which does not see the
    environment's packages.
    """
    active = _place_of_link(sys.argv[0]) or os.environ.get('VIRTUAL_ENV')
    if not active or sys.prefix != sys.base_prefix:
        return sys.executable
    python = os.path.join(active, 'bin', 'python3')
    if _home(active) == os.path.dirname(os.path.realpath(sys.executable)):
        return python
    say(f'{active} is not an environment of this Python; ignoring its '
        f'packages; make one with {sys.executable} -m venv')
    return sys.executable


def _place_of_link(command):
    """Return the environment in whose bin/ the command is a link, or None."""
    place = os.path.dirname(os.path.dirname(os.path.abspath(command)))
    if os.path.islink(command) and os.path.isfile(
            os.path.join(place, 'pyvenv.cfg')):
        return place
    return None


def _home(environment):
    """Return the folder of the Python that an environment was made with."""
    try:
        with open(os.path.join(environment, 'pyvenv.cfg')) as file:
            for line in file:
                key, _, value = line.partition('=')
                if key.strip() == 'home':
                    return os.path.realpath(value.strip())
    except (OSError, ValueError):
        pass
    return None


def _flags():
    """The options of this interpreter, such as -X dev, for the next one.

    Isolation is the command's own: bin/pytracemalloc has it, the program is
    not to have it, and it would not see how it is to be recorded.
    """
    return [flag for flag in subprocess._args_from_interpreter_flags()
            if flag not in ('-I', '-E')]
