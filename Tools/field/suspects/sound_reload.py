"""A table that is loaded again from time to time, each time somewhat larger
or smaller."""

from work import requests

table = {}

for number in requests():
    if number % 700 == 0:
        size = 800 + number * 37 % 500
        table = {row: f'row {row} of {size}' for row in range(size)}
    table.get(number)
