"""A large result that is built, written and dropped, again and again."""

from work import requests, words

rows = []

for number in requests():
    rows.append(','.join(words(number)))
    if len(rows) == 400:
        text = '\n'.join(rows)
        rows = []
        del text
