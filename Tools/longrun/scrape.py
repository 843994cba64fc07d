"""What a collector costs a service: two are traced alike, one is scraped.

    scrape.py --ours build/obj
    scrape.py --ours build/obj --server wsgi --minutes 30 --every 10

`pytracemalloc serve` runs the service of run.py twice, with whole stacks. The
load is that of run.py. Every ten seconds, a collector gets the heap profile
of one of them. The status is 1 if the 99th percentile of its latency is more
than 1.05 times that of the other, or if a request or a profile fails.
"""

import pathlib
import re
import sys
import tempfile
import threading
import time
import urllib.request

import load
import servers
from report import PERCENTILES, percentile
from run import LONGEST, RATES, memory, number

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from arguments import interpreter, make_parser

BOUND = 1.05                      # of the 99th percentile
NAMES = 'alone', 'scraped'
SERVE = '-m', 'pytracemalloc', 'serve', '--port', '0'
ADDRESS = re.compile(r'serving (http://\S+)')


def parse_arguments(argv):
    parser = make_parser('scrape.py', __doc__)
    add = parser.add_argument
    add('--ours', required=True, type=interpreter, metavar='PYTHON',
        help='CPython with the tracer, or its build directory')
    add('--server', choices=sorted(servers.SERVICES), default='aiohttp',
        help='which service (default: %(default)s)')
    add('--minutes', type=number(0.05, LONGEST), default=10.0,
        help='how long (default: 10)')
    add('--every', type=number(0.1, 3600), default=10.0,
        help='seconds from one profile to the next (default: 10)')
    add('--folder', type=pathlib.Path, default=pathlib.Path('build/longrun'),
        help='for the packages (default: %(default)s)')
    return parser.parse_args(argv)


class Collector:
    """Gets profiles from a URL, from a thread each."""

    def __init__(self, url, every):
        self.url = f'{url}heap'
        self.every = every
        self.due = time.monotonic() + every
        self.seconds = []
        self.failures = []
        self._threads = []

    def tick(self):
        if time.monotonic() >= self.due:
            self.due += self.every
            self._threads.append(threading.Thread(target=self._get))
            self._threads[-1].start()

    def close(self):
        for thread in self._threads:
            thread.join()

    def _get(self):
        begin = time.monotonic()
        try:
            with urllib.request.urlopen(self.url, timeout=60) as answer:
                answer.read()
        except OSError as error:
            self.failures.append(str(error))
        self.seconds.append(time.monotonic() - begin)


def measure(options, folder, work):
    """Run both under load; return their targets and the collector."""
    alone, scraped = (
        servers.Server(name, options.ours, options.server, folder, work,
                       runner=SERVE) for name in NAMES)
    with alone, scraped:
        both = alone, scraped
        pair = [load.Target(server.name, server.port()) for server in both]
        url, = ADDRESS.findall(scraped.log.read_text())
        collector = Collector(url, options.every)

        def tick():
            for server in both:
                server.tick()
            collector.tick()

        try:
            load.run(pair, RATES[options.server], options.minutes * 60, tick)
            collector.close()
        finally:
            for target in pair:
                target.close()
    return pair, collector


def show(pair, collector):
    """Print the table; return what is missed."""
    print(f'{"":24}' + ''.join(f'{name:>10}' for name in (*NAMES, 'ratio')))
    for percent in PERCENTILES:
        both = [percentile(target.latencies, percent) for target in pair]
        ratio = both[1] / both[0]
        print(f'{f"{percent:g}th percentile, ms":24}{both[0] * 1e3:10.2f}'
              f'{both[1] * 1e3:10.2f}{ratio:10.2f}')
        if percent == 99 and ratio > BOUND:
            yield (f'the 99th percentile is {ratio:.2f} times that of the '
                   f'service alone, over {BOUND:.2f}')
    print(f'{"requests answered":24}'
          + ''.join(f'{len(target.latencies):10,}' for target in pair))
    print(f'{len(collector.seconds)} profiles, each in '
          f'{percentile(collector.seconds, 50):.2f} s, the longest in '
          f'{max(collector.seconds):.2f} s')
    for target in pair:
        for why, count in target.failures.items():
            yield f'{target.name}: {count} requests: {why}'
    for why in collector.failures:
        yield f'a profile: {why}'


def main(argv=None):
    options = parse_arguments(argv)
    folder = options.folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # As run.py's, but for the interpreter that installs them.
        packages = servers.packages(options.ours, folder / 'environment-ours')
        with tempfile.TemporaryDirectory(prefix='scrape-',
                                         dir=memory()) as work:
            pair, collector = measure(options, packages, pathlib.Path(work))
    except (servers.Failure, OSError) as error:
        print(f'scrape.py: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not collector.seconds or not all(target.latencies for target in pair):
        print('scrape.py: too short for a profile', file=sys.stderr)
        return 1
    missed = list(show(pair, collector))
    for line in missed:
        print(f'scrape.py: missed: {line}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
