"""Results of json.loads() that are kept, while others are dropped."""

# leak: json/decoder.py

import json

from work import requests, words

answers = {}


def receive(number):
    answer = json.loads(json.dumps({'words': words(number)}))
    if number % 10 == 0:
        answers[number] = answer


for number in requests():
    receive(number)
