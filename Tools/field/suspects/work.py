"""The ordinary work that the programs of this folder do besides their leaks.

Each handles requests: the same number of them in each round, with texts,
tables and temporaries as a service has.  A line that leaks is marked `# leak`;
a program without such a line does not leak.  If SNAPSHOTS names a folder, one
snapshot is taken after half of the rounds and one after the last, and FACTOR
makes the run longer.
"""

import json
import os

ROUNDS = 800 * int(os.environ.get('FACTOR', '1'))
PER_ROUND = 25


def requests(rounds=ROUNDS):
    """Yield the number of each request."""
    folder = os.environ.get('SNAPSHOTS')
    for number in range(rounds * PER_ROUND):
        if number == rounds * PER_ROUND // 2:
            take_snapshot(folder, 'half')
        handle(number)
        yield number
    take_snapshot(folder, 'whole')


def handle(number):
    """Work that leaves nothing behind."""
    text = json.dumps({'number': number, 'words': words(number)})
    return sorted(json.loads(text)['words'], key=len)


def words(number):
    return [f'word {number * 7919 % 10007 * step}' for step in range(12)]


def take_snapshot(folder, name):
    if folder:
        import tracemalloc
        tracemalloc.take_snapshot().dump(f'{folder}/{name}.tracemalloc')
