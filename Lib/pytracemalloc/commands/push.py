"""pytracemalloc push: send the profiles of a running program to a receiver."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time

from pytracemalloc.arguments import positive
from pytracemalloc.errors import CommandError
from pytracemalloc.files import load_snapshot
from pytracemalloc.options import add_target
from pytracemalloc.processes import user_of
from pytracemalloc.receiver import Receiver, read_pairs
from pytracemalloc.reporters import otlp
from pytracemalloc.targets import check_tracing, reach, write_snapshot
from pytracemalloc.terminal import say
from pytracemalloc.tree import Tree

HELP = 'send heap profiles of a running program to an OTLP receiver'
DESCRIPTION = """\
Send heap profiles of a running program to a receiver of OpenTelemetry's
profiles signal, such as a collector, over HTTP. The program is reached as by
`pytracemalloc snapshot` and must be traced. This command does all else, so the
program needs no package. The command needs opentelemetry-proto.
"""
EPILOG = """\
environment:
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, the same with
  PROFILES_ after OTLP_, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES

examples:
  %(prog)s 1234 http://collector:4318
  %(prog)s 1234 http://collector:4318 --once
  %(prog)s /run/shop --interval 10    all processes with a socket there
"""


def add_arguments(parser):
    add_target(parser)
    parser.add_argument('url', metavar='URL', nargs='?',
                        help='of the receiver; without a path, '
                             '/v1development/profiles is added (default: that '
                             'of the environment)')
    parser.add_argument('--interval', metavar='S', type=positive, default=60,
                        help='seconds between two profiles (default: 60)')
    parser.add_argument('--once', action='store_true',
                        help='send one profile of each process and exit')
    parser.add_argument('--types', action='store_true',
                        help='also say of what type live blocks are; the '
                             'program stops longer for such a snapshot')
    parser.add_argument('--service', metavar='NAME',
                        help='name of the service (default: that of the '
                             'environment)')


def run(args):
    receiver = Receiver(args.url)
    otlp.messages()
    attributes = _attributes(args.service)
    # What a snapshot was written to is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _push_all(receiver, args, attributes)
    while not args.once:
        time.sleep(args.interval)
        try:
            _push_all(receiver, args, attributes)
        except CommandError as exc:
            # A wrong URL has ended the command the first time.
            if _has_ended(args.target):
                raise
            say(f'{exc}; trying again in {args.interval} seconds')


def _has_ended(target):
    return target.isdigit() and not os.path.exists(f'/proc/{target}')


def _attributes(service):
    """Return what the environment says of the service, {name: text}."""
    name = 'OTEL_RESOURCE_ATTRIBUTES'
    found = dict(read_pairs(os.environ.get(name, ''), name))
    service = service or os.environ.get('OTEL_SERVICE_NAME')
    return found | ({'service.name': service} if service else {})


def _push_all(receiver, args, attributes):
    with reach(args.target, args.wait) as clients:
        for client in clients.each():
            status = client.ask('status')
            check_tracing(status)
            snapshot = _take(client, status['pid'], args.types)
            receiver.send(otlp.encode(
                Tree.from_snapshot(snapshot), snapshot.timestamp,
                (_describe(status) | attributes).items()))


def _describe(status):
    """Return what the program is, by OpenTelemetry's names."""
    interpreter = (status['argv'] or ['python'])[0]
    return {'service.name': f'unknown_service:{os.path.basename(interpreter)}',
            'host.name': socket.gethostname(),
            'process.pid': status['pid'],
            'process.command_line': ' '.join(status['argv']),
            'process.runtime.name': 'cpython'}


def _take(client, pid, types):
    """Return a snapshot that the program has written."""
    with contextlib.ExitStack() as stack:
        path = None
        if not client.root:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix='pytracemalloc-'))
            if os.geteuid() == 0:
                os.chown(folder, user_of(pid), -1)
            path = os.path.join(folder, 'snapshot')
        path, _ = write_snapshot(client, pid, path, traces=types)
        if client.root:
            stack.callback(os.unlink, path)
        return load_snapshot(path)
