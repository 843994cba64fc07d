"""Exceptions that are kept hold the frames that they passed, with all that
these were working on."""

from work import requests, words

failures = []


def parse(number):
    fields = [word.title() for word in words(number)]    # leak
    if number % 5 == 0:
        raise ValueError(fields[0])


for number in requests():
    try:
        parse(number)
    except ValueError as exc:
        failures.append(exc)
