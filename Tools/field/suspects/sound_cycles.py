"""Cycles, which the collector frees from time to time."""

from work import requests, words


class Parent:
    def __init__(self, number):
        self.children = [Child(self, word) for word in words(number)]


class Child:
    def __init__(self, parent, word):
        self.parent = parent
        self.word = word.upper()


for number in requests():
    Parent(number)
