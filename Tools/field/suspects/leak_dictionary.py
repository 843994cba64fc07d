"""A dictionary that grows: sessions that nobody removes."""

from work import requests

sessions = {}


def login(number):
    sessions[f'session {number}'] = {'user': number}    # leak


for number in requests():
    login(number)
