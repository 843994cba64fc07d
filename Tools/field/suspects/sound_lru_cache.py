"""A bounded cache, full after a tenth of the time."""

import functools

from work import requests, words


@functools.lru_cache(maxsize=200)
def search(query):
    return [word.upper() for word in words(len(query))]


for number in requests():
    search(f'articles of page {number}')
