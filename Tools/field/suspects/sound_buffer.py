"""A buffer that grows to the longest message, and a set of open requests that
is sometimes large."""

from work import requests, words

buffer = bytearray()
open_requests = {}

for number in requests():
    message = ' '.join(words(number)).encode() * (number * 37 % 50)
    buffer[:len(message)] = message
    open_requests[number] = message[:200]
    for old in list(open_requests)[:number * 13 % 5]:
        del open_requests[old]
