"""Customers that become known, until all of them are."""

from work import ROUNDS, PER_ROUND, requests

customers = {}
KNOWN = ROUNDS * PER_ROUND * 2 // 5


def visit(number):
    key = number % KNOWN
    if key not in customers:
        customers[key] = {'name': f'customer {key}', 'visits': 0}
    customers[key]['visits'] += 1


for number in requests():
    visit(number)
