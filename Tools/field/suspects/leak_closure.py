"""A closure keeps what it was made with."""

from work import requests, words

undo = []


def change(number):
    before = [word.upper() for word in words(number)]    # leak

    def restore():
        return before
    undo.append(restore)


for number in requests():
    change(number)
