"""Tables that are made at the start."""

from work import requests

table = {number: f'row {number} of the table' for number in range(20_000)}
squares = [number * number for number in range(50_000)]

for number in requests():
    table[number % 20_000].upper()
