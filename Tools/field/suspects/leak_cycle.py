"""Cycles of objects with __del__, in a service that has switched the collector
off for the sake of latency."""

import gc

from work import requests

gc.disable()


class Node:
    def __init__(self, number):
        self.number = number
        self.data = bytes(200 + number % 7)    # leak
        self.other = None

    def __del__(self):
        self.data = None


def connect(number):
    left, right = Node(number), Node(number + 1)
    left.other, right.other = right, left


for number in requests():
    connect(number)
