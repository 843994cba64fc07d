"""Objects that are found by a weak reference, and die with their users."""

import collections
import weakref

from work import requests


class Document:
    def __init__(self, number):
        self.text = f'the text of document {number}' * 5


documents = weakref.WeakValueDictionary()
in_use = collections.deque(maxlen=40)


def fetch(number):
    key = number * 31 % 1009
    document = documents.get(key)
    if document is None:
        document = documents[key] = Document(key)
    in_use.append(document)


for number in requests():
    fetch(number)
