"""pytracemalloc serve: run a program that answers pprof's HTTP requests."""

import socket

from pytracemalloc.commands.run import frames_option
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.program import (add_program_arguments, check_program,
                                   execute)

HELP = 'run a program and serve its heap profile over HTTP'
DESCRIPTION = """\
Run a Python program under the tracer, with an HTTP endpoint that serves
/debug/pprof/heap and /debug/pprof/allocs as a Go program does.
"""
EPILOG = """\
examples:
  %(prog)s --port 6060 server.py
  go tool pprof http://127.0.0.1:6060/debug/pprof/heap
  go tool pprof 'http://127.0.0.1:6060/debug/pprof/allocs?seconds=30'
"""


def add_arguments(parser):
    parser.add_argument('--port', metavar='PORT', type=_port, default=0,
                        help='port to listen on (default: a free one, which '
                             'is printed)')
    parser.add_argument('--host', metavar='HOST', default='127.0.0.1',
                        help='address to listen on (default: 127.0.0.1, '
                             'reachable only from this machine)')
    parser.add_argument('--allow-host', metavar='NAME', action='append',
                        default=[], help='host name that requests may use '
                        'besides HOST, localhost and addresses; may be '
                        'repeated; * allows any')
    parser.add_argument('-n', metavar='N|full', dest='frames',
                        type=frames_option, default='full', help='frames to '
                        'keep of each traceback (default: full)')
    add_program_arguments(parser)


def run(args):
    check_program(args.command_line)
    _check_address(args.host, args.port)
    execute(args.command_line, {
        'frames': args.frames, 'output': None, 'name': None, 'every': None,
        'growth': None, 'warn_at': None, 'keep': None, 'history': False,
        'follow': False, 'kind': {'traces': False},
        'http': (args.host, args.port, args.allow_host)})


def _check_address(host, port):
    """Check it now, before the program runs."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as exc:
        raise CommandError(f'cannot serve on {host}:{port}: '
                           f'{exc.strerror or exc}; choose another --host or '
                           f'--port') from None


def _port(text):
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise UsageError(f'--port {text}: give a number from 0 to 65535')
