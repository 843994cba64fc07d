"""A line that makes and drops a thousand times as much as it keeps."""

from work import requests

audit = []


def text(number):
    return f'{number:0400}'    # leak


for number in requests():
    parts = [text(number + step) for step in range(20)]
    if number % 50 == 0:
        audit.append(parts[0])
