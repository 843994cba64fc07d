"""The sub-commands: one module each, with

HELP, DESCRIPTION, EPILOG: texts of --help
add_arguments(parser): declare the options
run(args): run the command; return the exit status, None for 0
"""

import importlib

COMMANDS = ('demo', 'run', 'report', 'diff', 'why', 'rss', 'top', 'status',
            'start', 'snapshot', 'push', 'reset-peak', 'stop', 'recover',
            'serve', 'completion')
# They start a program under the tracer of this interpreter.
TRACING = 'demo', 'run', 'serve'


def load_command(name):
    return importlib.import_module(f'{__name__}.{name.replace("-", "_")}')
