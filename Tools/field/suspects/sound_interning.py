"""Names that are interned: there are only so many."""

import sys

from work import requests

names = set()


def tag(number):
    names.add(sys.intern(f'the name of tag number {number * number % 211}'))


for number in requests():
    tag(number)
