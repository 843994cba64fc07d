"""A cache without a bound, keyed by the query."""

import functools

from work import requests, words


@functools.cache
def search(query):
    return [word for word in words(len(query)) if word > query] + [
        query.upper()]    # leak


for number in requests():
    search(f'articles of page {number}')
