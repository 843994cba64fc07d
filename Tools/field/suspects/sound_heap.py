"""A heap that keeps the largest orders, and evicts the others."""

import heapq

from work import requests

largest = []

for number in requests():
    order = (number * 7919 % 100_003, number, 'x' * 200 + str(number))
    if len(largest) < 100:
        heapq.heappush(largest, order)
    else:
        heapq.heappushpop(largest, order)
