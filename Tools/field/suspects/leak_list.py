"""A list that grows: a log that is kept for later."""

from work import requests

log = []


def note(number):
    log.append(f'request {number} was handled, and all was well')    # leak


for number in requests():
    note(number)
