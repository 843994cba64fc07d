"""pytracemalloc demo: find the leak of a small shop, by the commands that one
would use.

The shop is a program in a process of its own, ../demo/shop.py.  Each command
is shown as it would be typed in the demo's directory, and runs there.
"""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys

from pytracemalloc.arguments import positive
from pytracemalloc.errors import CommandError
from pytracemalloc.files import check_absent
from tracemalloc.printable import printable

_SHOP = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'demo',
                     'shop.py')
_SOCKET = 'shop.sock'
_WARM, _LATER, _PAGE = 'warm.tracemalloc', 'later.tracemalloc', 'shop.html'
_WARM_UP = 60                     # requests
_PATHS = ('/', '/search?q=lamp', '/buy?id=7', '/api', '/search?q=blue',
          '/buy?id=31')

HELP = 'find the leak of a small web shop, and make a page of it'
DESCRIPTION = """\
Run a small web shop that never forgets a visitor, send it requests, and find
the line to blame. Each command is shown before it runs; the last one makes a
page. The shop and all files stay in a directory, so that you can continue with
them.
"""
EPILOG = """\
examples:
  %(prog)s -o shop
  %(prog)s -f --requests 1000         once more, with more requests
"""


def add_arguments(parser):
    parser.add_argument('-o', '--output', metavar='DIR',
                        default='pytracemalloc-demo', help='the directory '
                        '(default: pytracemalloc-demo)')
    parser.add_argument('-f', '--force', action='store_true',
                        help='overwrite the files of an earlier demo')
    parser.add_argument('--requests', metavar='N', type=positive, default=400,
                        help='number of requests, half of them from robots '
                             'that send no cookies (default: 400)')


def run(args):
    os.environ.pop('PYTRACEMALLOC_CONTROL', None)
    directory = os.path.abspath(args.output)
    _make_directory(directory, args.force)
    with _shop(directory) as port:
        _say(f'{_WARM_UP} requests, to warm it up')
        _visit(port, _WARM_UP, robots=False)
        _call(directory, 'snapshot', _SOCKET, '-fo', _WARM)
        _say(f'{args.requests} requests, half of them from robots that send '
             f'no cookies')
        robots = args.requests // 2
        _visit(port, args.requests - robots, robots=False)
        _visit(port, robots, robots=True)
        _call(directory, 'snapshot', _SOCKET, '--references', '-fo', _LATER)
    _say('Which lines of the shop hold more?')
    _call(directory, 'diff', _WARM, _LATER, '--my-code', '--top', '3')
    _say('Who holds what the first of them has allocated?')
    _call(directory, 'why', _LATER, _name_leak(directory), '--most', '1')
    _say('All of it as a page')
    _call(directory, 'diff', _WARM, _LATER, '-fo', _PAGE)
    print(f'\nThe page: {printable(os.path.join(directory, _PAGE))}')


def _make_directory(directory, force):
    shop = os.path.join(directory, os.path.basename(_SHOP))
    try:
        os.makedirs(directory, exist_ok=True)
        for path in shop, *(os.path.join(directory, name)
                            for name in (_WARM, _LATER, _PAGE)):
            check_absent(path, force)
        shutil.copyfile(_SHOP, shop)
    except OSError as exc:
        raise CommandError(f'{directory}: {exc.strerror}; choose another '
                           f'place with -o') from None


def _say(text):
    print(f'\n# {text}', flush=True)


@contextlib.contextmanager
def _shop(directory):
    """Run the shop; give the port at which it serves."""
    options = ['-X', 'tracemalloc=full',
               '-X', f'tracemalloc_control={_SOCKET}',
               os.path.basename(_SHOP)]
    print('$', shlex.join(['python', *options]), '&', flush=True)
    with subprocess.Popen([sys.executable, *options], cwd=directory,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        port = process.stdout.readline().strip()
        if not port.isdigit():
            raise CommandError('the shop could not start, see above')
        try:
            yield int(port)
        finally:
            process.stdin.close()         # it ends, and removes the socket


def _visit(port, requests, robots):
    """Send requests: as one visitor with a cookie, or as robots without."""
    headers = {'User-Agent': 'robot' if robots else 'browser'}
    for number in range(requests):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
        try:
            connection.request('GET', _PATHS[number % len(_PATHS)],
                               headers=headers)
            response = connection.getresponse()
            response.read()
        except OSError as exc:
            raise CommandError(f'the shop does not answer: '
                               f'{exc.strerror or exc}') from None
        finally:
            connection.close()
        if not robots:
            headers['Cookie'] = response.headers['Set-Cookie'].partition(
                ';')[0]


def _call(directory, *arguments):
    print('$', shlex.join(['pytracemalloc', *arguments]), flush=True)
    done = _run(directory, arguments)
    if done.returncode:
        raise CommandError('the demo ends here, for the reason above')


def _name_leak(directory):
    """Return the line of the shop that has grown most, as `why` takes it."""
    done = _run(directory, ['diff', _WARM, _LATER, '--my-code', '--json'],
                stdout=subprocess.PIPE)
    worst = json.loads(done.stdout)['statistics'][0]
    return f'{os.path.basename(worst["filename"])}:{worst["lineno"]}'


def _run(directory, arguments, **options):
    return subprocess.run(
        [sys.executable, '-I', '-m', 'pytracemalloc', *arguments],
        cwd=directory, **options)
