"""Functions to be called at the end, registered with each request."""

import atexit

from work import requests


def open_file(number):
    name = f'/tmp/upload-{number}'
    atexit.register(name.removesuffix, '.part')    # leak


for number in requests():
    open_file(number)
