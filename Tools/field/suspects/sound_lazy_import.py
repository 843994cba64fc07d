"""Modules that the first requests import."""

import importlib

from work import requests

MODULES = ('decimal', 'fractions', 'statistics', 'html.parser', 'csv',
           'email.message', 'xml.dom.minidom', 'difflib', 'argparse')


def handle(number):
    if number % 50 == 0 and number // 50 < len(MODULES):
        importlib.import_module(MODULES[number // 50])
    return importlib.import_module('decimal').Decimal(number) / 7


for number in requests():
    handle(number)
