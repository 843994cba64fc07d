"""A pool of connections, with the buffers that each of them has got."""

import collections

from work import requests


class Connection:
    def __init__(self):
        self.buffer = bytearray(4000)

    def query(self, number):
        return bytes(self.buffer[:number % 100 + 900])


free = collections.deque()
made = 0


def take():
    global made
    if free and (made >= 20 or len(free) > made // 2):
        return free.popleft()
    made += 1
    return Connection()


for number in requests():
    connections = [take() for _ in range(number % 8 + 1)]
    for connection in connections:
        connection.query(number)
        free.append(connection)
