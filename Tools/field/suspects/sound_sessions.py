"""Sessions that come and go at random: their number wanders."""

import random

from work import requests

random.seed(1)
sessions = {}

for number in requests():
    sessions[number] = {'user': number, 'basket': [number] * 10}
    while len(sessions) > 400 or (sessions and random.random() < 0.48):
        del sessions[random.choice(list(sessions)[:50])]
