"""A test suite in which one test leaves something behind."""

import pytest

cache = {}


def price(article):
    if article not in cache:
        prices = [article] * 50    # leak
        cache[article] = prices
    return len(cache[article])


@pytest.mark.limit_leaks('20 KB')
def test_that_leaks():
    for article in range(100):
        price(f'article {article}')


@pytest.mark.limit_leaks('20 KB')
def test_that_does_not():
    assert sum([price('article 1') for _ in range(100)])
