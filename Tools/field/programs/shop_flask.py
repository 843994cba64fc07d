"""A service of Flask, for gunicorn: it keeps each order."""

import os

import flask

app = flask.Flask(__name__)
orders = []


@app.post('/')
def order():
    orders.append(flask.request.get_data() + b'.')    # leak
    return 'ok'


@app.get('/kept')
def kept():
    return {'process': os.getpid(), 'count': len(orders),
            'size': sum(map(len, orders))}
