"""A pool of threads, and futures that are dropped when they are done."""

import concurrent.futures

from work import requests, words


def work(number):
    return ' '.join(words(number)).upper()


with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for number in requests():
        pool.submit(work, number).result()
