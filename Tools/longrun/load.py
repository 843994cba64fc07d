"""Load at a fixed rate, request by request in turn to each of two servers.

The load is open: a request is due at a time that does not depend on earlier
answers. Arrivals are those of a Poisson process; the two
servers get the same requests, and the order within a pair alternates. The
clock of a request starts when it is due and the generator runs: a wait for
a free connection counts, a late generator does not (how late it was is kept
beside it).
"""

import array
import collections
import gc
import json
import random
import select
import socket
import time

CONNECTIONS = 8
PATIENCE = 10.0                   # seconds for an answer
PAUSE = 0.25                      # the longest wait: then late ones are seen
MIX = (('product', 60), ('page', 20), ('order', 14), ('search', 5),
       ('report', 1))


class Target:
    """A server under load and what its answers took."""

    def __init__(self, name, port):
        self.name = name
        self.port = port
        self.times = array.array('d')         # seconds since the start
        self.latencies = array.array('d')
        self.failures = collections.Counter()
        self.idle = collections.deque()
        self.busy = {}                        # by socket
        self.waiting = collections.deque()
        self.connected = 0

    def send(self, due, request):
        self.waiting.append((due, request))
        self._send_waiting()

    def _send_waiting(self):
        while self.waiting:
            if self.idle:
                client = self.idle.popleft()
            elif self.connected < CONNECTIONS:
                client = socket.create_connection(
                    ('127.0.0.1', self.port), PATIENCE)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connected += 1
            else:
                return
            due, request = self.waiting.popleft()
            self.busy[client] = [due, b'']
            try:
                client.sendall(request)
            except OSError:
                self._fail(client, 'connection lost')

    def receive(self, client, begin):
        state = self.busy[client]
        try:
            data = client.recv(1 << 17)
        except OSError:
            data = b''
        if not data:
            self._fail(client, 'connection lost')
            return
        state[1] += data
        status = answer_status(state[1])
        if status is not None:
            now = time.perf_counter()
            del self.busy[client]
            self.idle.append(client)
            self.times.append(state[0] - begin)
            self.latencies.append(now - state[0])
            if status != 200:
                self.failures[f'status {status}'] += 1
            self._send_waiting()

    def drop_late(self, now):
        for client, (due, _) in list(self.busy.items()):
            if now - due > PATIENCE:
                self._fail(client, f'no answer in {PATIENCE:.0f} s')

    def _fail(self, client, why):
        del self.busy[client]
        client.close()
        self.connected -= 1
        self.failures[why] += 1

    def close(self):
        for client in (*self.idle, *self.busy):
            client.close()


def answer_status(data):
    """Return the status of a whole answer, None if more is to come."""
    head, end, body = data.partition(b'\r\n\r\n')
    if not end:
        return None
    length = 0
    for line in head.split(b'\r\n')[1:]:
        name, _, value = line.partition(b':')
        if name.lower() == b'content-length':
            length = int(value)
    return int(head.split(None, 2)[1]) if len(body) >= length else None


def requests(seed):
    """Yield requests as bytes, for ever; the same for the same seed."""
    chance = random.Random(seed)
    kinds, weights = zip(*MIX)
    while True:
        kind, = chance.choices(kinds, weights)
        # A few products are asked for often, most of them seldom.
        product = int(chance.paretovariate(0.6)) % 2000
        body = b''
        if kind == 'product':
            path = f'product/{product}'
        elif kind == 'page':
            path = f'page/{product % 200}'
        elif kind == 'search':
            path = f'search/{chance.randrange(500)}'
        elif kind == 'report':
            path = 'report'
        else:
            path = 'order'
            body = json.dumps(
                {'customer': f'customer {chance.randrange(3000)}',
                 'lines': [{'product': chance.randrange(2000),
                            'amount': chance.randrange(1, 9)}
                           for _ in range(chance.randrange(1, 6))]}).encode()
        method = 'POST' if body else 'GET'
        yield (f'{method} /{path} HTTP/1.1\r\nHost: shop\r\n'
               f'Content-Type: application/json\r\n'
               f'Content-Length: {len(body)}\r\n\r\n').encode() + body


def run(pair, rate, seconds, tick):
    """Load both targets for so long; return how late the generator was.

    *rate* is that of each. tick() is called about each second; once it
    returns true, the load ends early.
    """
    chance = random.Random(2)
    source = requests(3)
    late = array.array('d')
    gc.collect()
    gc.freeze()
    gc.disable()
    begin = due = time.perf_counter()
    ticked = 0.0
    number = 0
    while True:
        now = time.perf_counter()
        if now >= begin + seconds:
            break
        while due <= now:
            if number % 2 == 0:
                request = next(source)
            # Stock first, traced first, stock first, ...
            target = pair[(number + number // 2) % 2]
            start = time.perf_counter()
            late.append(start - due)
            target.send(start, request)
            number += 1
            due += chance.expovariate(2 * rate)
        clients = {client: target for target in pair
                   for client in target.busy}
        wait = min(max(0.0, due - time.perf_counter()), PAUSE)
        for client in select.select(list(clients), [], [], wait)[0]:
            if client in clients[client].busy:
                clients[client].receive(client, begin)
        if now - ticked > 1:
            ticked = now
            if tick():
                break
            for target in pair:
                target.drop_late(now)
    gc.enable()
    gc.unfreeze()
    return late
