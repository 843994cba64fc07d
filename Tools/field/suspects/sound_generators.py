"""A pipeline of generators: nothing stays."""

from work import requests, words


def rows(number):
    for word in words(number):
        yield word.split()


def totals(parts):
    for part in parts:
        yield {'kind': part[0], 'sum': int(part[1]) + 1_000_000}


for number in requests():
    sum(total['sum'] for total in totals(rows(number)))
