"""`make demo`: serve a few hundred requests, and find what the service keeps.

Runs the shop of shop.py under wsgiref, as visitors and robots would use it,
takes a snapshot after warming up and another at the end, and prints where the
memory was allocated, how it grew, and the line to look at.
"""
import argparse
import http.client
import linecache
import pathlib
import sys
import threading
import time
import tracemalloc
import wsgiref.simple_server

import shop

HERE = pathlib.Path(__file__).parent
LIBRARY = pathlib.Path(linecache.__file__).parent
PATHS = ['/', '/search?q=lamp', '/buy?id=7', '/api', '/search?q=blue',
         '/buy?id=31']


class QuietHandler(wsgiref.simple_server.WSGIRequestHandler):

    def log_message(self, *args):
        pass


def visit(port, requests, robots):
    """Send requests: as one visitor with a cookie, or as robots without."""
    cookie = ''
    for number in range(requests):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
        headers = {'User-Agent': 'robot' if robots else 'browser'}
        if cookie and not robots:
            headers['Cookie'] = cookie
        connection.request('GET', PATHS[number % len(PATHS)], headers=headers)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f'the shop answered {response.status}')
        cookie = response.headers['Set-Cookie'].partition(';')[0]
        connection.close()


def size_of(size):
    for unit in ('B', 'KiB', 'MiB'):
        if abs(size) < 10 * 1024 or unit == 'MiB':
            return f'{size:,.0f} {unit}'
        size /= 1024


def place_of(statistic):
    """The line as "file:number", and its source."""
    frame = statistic.traceback[0]
    if not frame.lineno:
        return frame.filename.strip('<>'), ''
    path = pathlib.Path(frame.filename)
    if frame.filename.startswith('<frozen '):
        module = frame.filename.removeprefix('<frozen ').removesuffix('>')
        path = LIBRARY / (module.replace('.', '/') + '.py')
    if path.is_relative_to(LIBRARY):
        name = path.relative_to(LIBRARY)
    else:
        name = path.name
    source = linecache.getline(str(path), frame.lineno).strip()
    return f'{name}:{frame.lineno}', source


def print_top(snapshot, count):
    """Imports count for the line that imports."""
    print(f'Top {count} lines by live memory')
    print(f'{"size":>12} {"blocks":>8}  line')
    for statistic in snapshot.fold_imports().statistics('lineno')[:count]:
        place, source = place_of(statistic)
        print(f'{size_of(statistic.size):>12} {statistic.count:>8,}  {place}')
        if source:
            print(f'{"":>23}{source}')


def print_freelists(snapshot):
    """What was freed, and waits on CPython's free lists to be used again."""
    parked = {name: blocks
              for name, (blocks, size) in snapshot.freelists.items() if blocks}
    size = sum(size for blocks, size in snapshot.freelists.values())
    print(f'Not alive, but on free lists: {size_of(size)}; '
          + ', '.join(f'{name} {blocks}' for name, blocks in parked.items()))


def print_growth(differences, count):
    print(f'Growth between the two snapshots, top {count} lines')
    print(f'{"size":>12} {"blocks":>8}  line')
    for difference in differences[:count]:
        place, source = place_of(difference)
        sign = '+' if difference.size_diff > 0 else ''
        size = sign + size_of(difference.size_diff)
        print(f'{size:>12} {difference.count_diff:>+8,}  {place}')
        if source:
            print(f'{"":>23}{source}')


def print_leak(differences, snapshot, requests):
    """Name the line of the shop whose memory grew most, and its callers."""
    own = [difference for difference in differences
           if pathlib.Path(difference.traceback[0].filename).parent == HERE]
    leak = max(own, key=lambda difference: difference.size_diff)
    place, source = place_of(leak)
    print(f'Leak: {place}  {source}')
    print(f'  {size_of(leak.size_diff)} in {leak.count_diff:,} blocks more'
          f' after {requests} requests; allocated by way of')
    frame = leak.traceback[0]
    stacks = [statistic for statistic in snapshot.statistics('traceback')
              if statistic.traceback[-1] == frame]
    for line in stacks[0].traceback.format(limit=4):
        print(f'  {line}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--requests', type=int, default=400)
    options = parser.parse_args()
    if not tracemalloc.is_tracing():
        tracemalloc.start(10)

    start = time.monotonic()
    server = wsgiref.simple_server.make_server(
        '127.0.0.1', 0, shop.Shop(), handler_class=QuietHandler)
    port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    visit(port, 60, robots=False)
    before = tracemalloc.take_snapshot()
    visit(port, options.requests // 2, robots=False)
    visit(port, options.requests - options.requests // 2, robots=True)
    after = tracemalloc.take_snapshot()
    server.shutdown()
    seconds = time.monotonic() - start

    current, peak = tracemalloc.get_traced_memory()
    print(f'{sys.version.partition(",")[0]})')
    print(f'{options.requests} requests served in {seconds:.1f} s, traced;'
          f' {size_of(current)} live, {size_of(peak)} at the peak\n')
    print_top(after, 10)
    print()
    if any(blocks for blocks, size in after.freelists.values()):
        print_freelists(after)
        print()
    differences = after.compare_to(before, 'lineno')
    print_growth(differences, 5)
    print()
    print_leak(differences, after, options.requests)


if __name__ == '__main__':
    main()
