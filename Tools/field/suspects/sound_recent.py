"""The last events, in a ring."""

import collections

from work import requests

recent = collections.deque(maxlen=250)

for number in requests():
    recent.append(f'event {number} of the service, with a text')
