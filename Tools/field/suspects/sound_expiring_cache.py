"""A cache whose entries expire: it holds the last requests."""

from work import requests, words

cache = {}


def get(number):
    if number not in cache:
        cache[number] = ' '.join(words(number))
    for old in [key for key in cache if key < number - 300]:
        del cache[old]
    return cache[number]


for number in requests():
    get(number)
