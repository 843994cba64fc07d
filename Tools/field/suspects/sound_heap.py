"""A heap that keeps the largest orders, and evicts the others."""

import heapq

from work import requests

largest = []

for number in requests():
    order = (number * 7919 % 100_003, {'order': number, 'note': 'x' * 200})
    if len(largest) < 100:
        heapq.heappush(largest, order)
    else:
        heapq.heappushpop(largest, order)
