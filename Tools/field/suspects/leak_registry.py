"""A registry of a module: a logger for each request."""

# leak: logging/__init__.py

import logging

from work import requests


def handle(number):
    log = logging.getLogger(f'shop.request.{number}')
    log.debug('begins')


for number in requests():
    handle(number)
