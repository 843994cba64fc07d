"""One thread that serves the clients of a socket and never blocks on any of
them.

poll() says which client has sent something, and which can take more of an
answer.  The cost of a client is limited: the bytes of its request, the seconds
to send it and to take the answer, the number of clients, and the bytes of all
pending answers.  An error costs the client its connection, but never ends the
thread.

A subclass is a protocol: it takes requests off the input, and answers them at
once, or later from another thread.
"""

import atexit
import collections
import contextlib
import os
import select
import socket
import threading
import time
import weakref

_CHUNK = 1 << 16
_END_TIME = 1.0                   # seconds that the process waits at its end
_LEAVE_TIME = 1.0                 # seconds in which more is thrown away
_RETRY_TIME = 1.0                 # if a client cannot be accepted

# What a client does.
_ASKS = 'asks'                    # or is idle, if nothing has come
_WAITS = 'waits'                  # until deliver() has an answer for it
_TAKES = 'takes'                  # the answer
_LEAVES = 'leaves'                # after the last answer; input is dropped
_GONE = 'gone'


class Client:
    """A connection, with its input and its pending output."""

    def __init__(self, connection):
        self.socket = connection
        self.received = bytearray()
        self.output = memoryview(b'')
        self.ended = False        # it will send nothing more
        self.last = False         # the answer is the last one
        self.on_gone = None       # called if it goes while it waits
        self.enter(_ASKS)

    def enter(self, state):
        self.state = state
        self.since = time.monotonic()

    def seconds(self):
        """How long it has been in this state."""
        return time.monotonic() - self.since


class Loop:
    """Serves the clients of *listener* until close()."""

    max_clients = 128
    max_request = 1 << 16         # bytes
    max_untaken = 1 << 24         # bytes of all answers together
    request_time = 10.0           # seconds, from its first byte to its last
    answer_time = 10.0            # seconds in which it has to be taken
    idle_time = 10.0              # seconds after which it can lose its place
    asks_at_once = False          # request_time is from connect() on

    def __init__(self, listener, name):
        self._listener = listener
        self._clients = {}        # by file descriptor
        self._ready = []          # more of theirs has come than was served
        self._calls = collections.deque()
        self._lock = threading.Lock()         # of _woken
        self._woken = None        # an eventfd that wakes the thread
        self._accept_again = None
        self._closing = False
        self._poll = select.poll()
        self._thread = threading.Thread(target=self._run, daemon=True,
                                        name=name)
        try:
            listener.setblocking(False)
            self._poll.register(listener, select.POLLIN)
            self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._poll.register(self._woken, select.POLLIN)
            self._thread.start()
        except BaseException:
            self._close_all()
            raise
        _loops.add(self)

    def close(self):
        """Stop serving; the thread ends soon after."""
        self._closing = True
        self._wake()

    # --- The protocol

    def refusal(self, connection):
        """Return the answer for a client that must not connect, None if it
        may."""

    def take_request(self, received):
        """Take one request off a bytearray; None if it is not complete."""
        raise NotImplementedError

    def serve(self, client, request):
        """Call answer(), or hold() and later deliver()."""
        raise NotImplementedError

    def problem(self, kind):
        """Return the answer to a request that is too 'long' or too 'late', or
        that is not read because there are too many clients: 'full'."""
        raise NotImplementedError

    def answer(self, client, data, last=False):
        client.output, client.last = memoryview(data), last
        client.enter(_TAKES)
        self._send(client)
        if client.output:
            self._shed()

    def hold(self, client, on_gone=None):
        """deliver() will bring the answer.  *on_gone* is called if the client
        goes, or ends its input, before."""
        client.enter(_WAITS)
        client.on_gone = on_gone
        self._watch(client, select.POLLRDHUP if on_gone else 0)

    def deliver(self, client, data):
        """answer() a client that was held, unless it has gone."""
        if client.state == _WAITS:
            self._protect(self.answer, client, data, True)

    def hand_over(self, function, *arguments):
        """Have the loop's thread call a function; any thread may call this."""
        self._calls.append((function, arguments))
        self._wake()

    # --- The thread

    def _run(self):
        while not self._closing:
            try:
                self._turn()
            except Exception:     # of no client's making: no memory
                time.sleep(_RETRY_TIME)
        self._close_all()

    def _turn(self):
        wait = self._expire()
        if self._ready:
            wait = 0
        events = dict(self._poll.poll(
            None if wait is None else int(1000 * wait) + 1))
        woken = events.pop(self._woken, 0)
        newcomer = events.pop(self._listener.fileno(), 0)
        if (woken | newcomer) & select.POLLNVAL:
            self._closing = True  # the program has closed what is not its own
            return
        if woken:
            self._call()
        for number in events:
            if number in self._clients:
                self._protect(self._go_on, self._clients[number])
        if newcomer:              # last: others may have made place
            self._accept()
        ready, self._ready = self._ready, []
        for client in ready:
            self._protect(self._advance, client)

    def _protect(self, step, client, *arguments):
        """Call a function; if it fails, drop the client."""
        try:
            if client.state != _GONE:
                step(client, *arguments)
        except Exception:
            self._drop(client)

    def _call(self):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        while self._calls:
            function, arguments = self._calls.popleft()
            with contextlib.suppress(Exception):
                function(*arguments)

    def _wake(self):
        with self._lock:
            if self._woken is not None:
                with contextlib.suppress(OSError):
                    os.eventfd_write(self._woken, 1)

    def _close_all(self):
        with self._lock:
            woken, self._woken = self._woken, None
            if woken is not None:
                with contextlib.suppress(OSError):
                    os.close(woken)
        listener, self._listener = self._listener, None
        with contextlib.suppress(OSError):
            listener.close()
        for client in list(self._clients.values()):
            self._drop(client)

    def _leave_to_parent(self):
        """Called in the child of a fork.  It has the descriptors but not the
        thread, and locks that nobody will release."""
        self._lock = threading.Lock()
        self._closing = True
        if self._listener is not None:
            clients, self._clients = self._clients, {}
            for client in clients.values():
                client.socket.close()
            self._close_all()

    # --- Clients that come and go

    def _accept(self):
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:           # out of file descriptors, say
            self._poll.modify(self._listener, 0)
            self._accept_again = time.monotonic() + _RETRY_TIME
            return
        connection.setblocking(False)
        leaving = self._all(_LEAVES)
        if len(leaving) >= self.max_clients:
            self._drop(min(leaving, key=_since))
        has_place = self._has_place()
        client = Client(connection)
        self._clients[connection.fileno()] = client
        self._poll.register(connection, select.POLLIN)
        self._protect(self._welcome, client, has_place)

    def _welcome(self, client, has_place):
        problem = self.refusal(client.socket)
        if problem is None and not has_place:
            problem = self.problem('full')
        if problem is not None:
            self.answer(client, problem, last=True)

    def _has_place(self):
        """Make room for one more client, by dropping the longest idle one."""
        if len(self._clients) - len(self._all(_LEAVES)) < self.max_clients:
            return True
        idle = [client for client in self._all(_ASKS)
                if client.seconds() > self.idle_time]
        if not idle:
            return False
        longest = min(idle, key=_since)
        self._protect(lambda client: client.socket.send(
            self.problem('full')), longest)
        self._drop(longest)
        return True

    def _all(self, state):
        return [client for client in self._clients.values()
                if client.state == state]

    def _drop(self, client):
        if client.state == _GONE:
            return
        state = client.state
        client.enter(_GONE)
        client.output = memoryview(b'')
        number = client.socket.fileno()
        del self._clients[number]
        with contextlib.suppress(KeyError, OSError):
            self._poll.unregister(number)
        client.socket.close()
        if state == _WAITS and client.on_gone:
            client.on_gone()

    def _shed(self):
        """Keep the pending output within its limit: drop the slowest."""
        while True:
            takers = self._all(_TAKES)
            if sum(len(client.output) for client in takers) <= \
                    self.max_untaken:
                return
            self._drop(min(takers, key=_since))

    def _expire(self):
        """Drop clients that took too long; return the seconds to the next."""
        waits = []
        for client in list(self._clients.values()):
            limit = self._limit(client)
            if limit is None:
                continue
            left = limit - client.seconds()
            if left <= 0:
                self._protect(self._be_late, client)
                left = 0
            waits.append(left)
        if self._accept_again is not None:
            left = self._accept_again - time.monotonic()
            if left <= 0:
                self._accept_again = None
                self._poll.modify(self._listener, select.POLLIN)
            waits.append(max(0, left))
        return min(waits, default=None)

    def _limit(self, client):
        if client.state == _TAKES:
            return self.answer_time
        if client.state == _LEAVES:
            return _LEAVE_TIME
        if client.state == _ASKS and (client.received or self.asks_at_once):
            return self.request_time
        return None

    def _be_late(self, client):
        if client.state == _ASKS:
            self.answer(client, self.problem('late'), last=True)
        else:
            self._drop(client)

    # --- A client that goes on

    def _watch(self, client, events):
        self._poll.modify(client.socket, events)

    def _go_on(self, client):
        if client.state == _TAKES:
            self._send(client)
        elif client.state == _WAITS:
            self._drop(client)
        else:
            self._receive(client)

    def _receive(self, client):
        try:
            data = client.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        if client.state == _LEAVES:
            if not data:
                self._drop(client)
            return
        if not client.received and data and not self.asks_at_once:
            client.enter(_ASKS)   # the request begins
        client.received += data
        client.ended = not data
        self._advance(client)

    def _advance(self, client):
        """Serve the next request, if all of it has come."""
        if client.state != _ASKS:
            return
        request = self.take_request(client.received)
        if request is not None and len(request) <= self.max_request:
            self.serve(client, request)
        elif request is not None or len(client.received) > self.max_request:
            self.answer(client, self.problem('long'), last=True)
        elif client.ended:
            self._drop(client)

    def _send(self, client):
        try:
            sent = client.socket.send(client.output)
        except BlockingIOError:
            sent = 0
        client.output = client.output[sent:]
        if client.output:
            self._watch(client, select.POLLOUT)
            return
        if not client.last:
            client.enter(_ASKS)
            self._ready.append(client)
        elif client.ended:
            self._drop(client)
            return
        else:
            client.socket.shutdown(socket.SHUT_WR)
            client.enter(_LEAVES)
        self._watch(client, select.POLLIN)


def _since(client):
    return client.since


_loops = weakref.WeakSet()


def _leave_all_to_parent():
    for loop in _loops:
        loop._leave_to_parent()


def _end_all():
    """Wait for the threads.  At its end the interpreter frees the state of
    threads that still exist, while they may be using it."""
    for loop in list(_loops):
        loop.close()
    for loop in list(_loops):
        if loop._thread.is_alive():           # not in the child of a fork
            loop._thread.join(_END_TIME)


os.register_at_fork(after_in_child=_leave_all_to_parent)
atexit.register(_end_all)
