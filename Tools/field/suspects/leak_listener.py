"""Listeners that are added with each request and never taken off."""

from work import requests


class Bus:
    def __init__(self):
        self.listeners = []

    def connect(self, function):
        self.listeners.append(function)


class Handler:
    def __init__(self, number):
        self.buffer = bytearray(300)    # leak

    def changed(self):
        self.buffer[0] = 1


bus = Bus()
for number in requests():
    bus.connect(Handler(number).changed)
