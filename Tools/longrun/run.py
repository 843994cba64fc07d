"""A web service under load for an hour, traced, beside stock untraced.

    run.py --stock build/unpatched/obj --ours build/obj
    run.py --stock S --ours O --server wsgi --minutes 3
    run.py --stock S --ours O --minutes 10 --rate 50 --frames 25
    run.py --stock S --ours O --snapshots sums

Two servers run the same service: stock CPython without tracing, and ours
with whole stacks and a snapshot a second. Requests come at a
fixed rate and go in turn to each, so that noise of the machine hits both.
The table has the latencies side by side and the memory of the tracer; the
status is 1 if a bound is missed:

    50th, 99th, 99.9th percentile of latency, traced to untraced, at most
        1.10, 1.20, 1.50;
    memory of the tracer, from the end of the first sixth of the run (minute
        10 of 60) to its end, grows by at most 2 %;
    every request is answered with status 200.

The packages come from PyPI, at the versions of requirements.txt, into a
virtual environment beside the build. Databases are in /dev/shm, or in TMPDIR
if that is set. Servers listen only on 127.0.0.1, and every process that was
started is ended. Ctrl-C ends a run early: what was measured is printed.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import load
import report
import servers

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from arguments import interpreter, make_parser

LONGEST = 24 * 60                 # minutes
FASTEST = 2000                    # requests a second
RATES = {'aiohttp': 100.0, 'wsgi': 70.0}


def number(least, most):
    def convert(text):
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f'{text} is not between {least} and {most}')
        return value
    return convert


def frames(text):
    if text != 'full' and not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no depth; use full, or 1 to 65535')
    return text


def parse_arguments(argv):
    parser = make_parser('run.py', __doc__)
    add = parser.add_argument
    add('--stock', required=True, type=interpreter, metavar='PYTHON',
        help='CPython without the tracer, or its build directory')
    add('--ours', required=True, type=interpreter, metavar='PYTHON',
        help='CPython with the tracer, or its build directory')
    add('--server', choices=sorted(servers.SERVICES), default='aiohttp',
        help='which service: aiohttp, or Flask under waitress '
             '(default: %(default)s)')
    add('--minutes', type=number(0.05, LONGEST), default=60.0,
        help='how long (default: 60)')
    add('--rate', type=number(1, FASTEST),
        help='requests a second for each server (default: '
             + ', '.join(f'{name} {rate:g}'
                         for name, rate in RATES.items()) + ')')
    add('--frames', type=frames, default='full',
        help='how deep to trace (default: %(default)s)')
    add('--snapshots', choices=('blocks', 'sums'), default='blocks',
        help='what is taken each second: all blocks, or the sums of each '
             'line alone, take_snapshot(traces=False) (default: %(default)s)')
    add('--folder', type=pathlib.Path, default=pathlib.Path('build/longrun'),
        help='for the packages and the results, SERVER.json and SERVER.txt '
             '(default: %(default)s)')
    return parser.parse_args(argv)


def memory():
    """Return where files are no files of a disk, that others' work stalls."""
    place = '/dev/shm'
    usable = 'TMPDIR' not in os.environ and os.access(place, os.W_OK)
    return place if usable else None


def measure(options, folder, work):
    """Run both servers under load; return the figures, None if there are none
    yet, and the signals that have ended it early."""
    with (servers.Server('stock', options.stock, options.server, folder,
                         work) as stock,
          servers.Server('traced', options.ours, options.server, folder,
                         work, options.frames, options.snapshots) as traced):
        both = stock, traced
        pair = [load.Target(server.name, server.port()) for server in both]
        before = [server.processor() for server in both]
        busy, own = servers.machine_busy(), servers.own_processor()
        begin = time.monotonic()

        def tick():
            for server in both:
                server.tick()
            return bool(ended)

        ended = []
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, lambda number, _: ended.append(number))
        try:
            late = load.run(pair, options.rate, options.minutes * 60, tick)
        finally:
            for target in pair:
                target.close()
        tick()
        seconds = time.monotonic() - begin
        used = [server.processor() - start
                for server, start in zip(both, before)]
        own = servers.own_processor() - own
        others = servers.machine_busy() - busy - own - sum(used)
        samples = [json.loads(line)
                   for line in traced.samples.read_text().splitlines()]
    if not samples or not all(target.latencies for target in pair):
        return None, ended
    figures = report.Figures(
        options, seconds, pair, samples, late,
        [server.resident for server in both],
        [share / seconds for share in used],
        max(0.0, others) / seconds / os.cpu_count())
    return figures, ended


def main(argv=None):
    options = parse_arguments(argv)
    options.rate = options.rate or RATES[options.server]
    options.folder = options.folder.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        folder = servers.packages(options.stock,
                                  options.folder / 'environment')
        with tempfile.TemporaryDirectory(prefix='longrun-',
                                         dir=memory()) as work:
            figures, ended = measure(options, folder, pathlib.Path(work))
    except (servers.Failure, OSError) as error:
        print(f'run.py: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    missed = ['no request was answered'] if not ended else []
    if figures is not None:
        figures.save(options.folder / options.server)
        print(figures.table())
        missed = figures.missed()
    for line in missed:
        print(f'run.py: missed: {line}', file=sys.stderr)
    if ended:
        return 128 + ended[0]
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
