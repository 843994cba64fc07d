"""A queue that fills and drains."""

import collections

from work import requests, words

jobs = collections.deque()


def submit(number):
    jobs.append({'number': number, 'words': words(number)})


for number in requests():
    submit(number)
    if len(jobs) == 170:
        while jobs:
            jobs.popleft()
