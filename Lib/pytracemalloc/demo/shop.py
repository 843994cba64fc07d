"""A small shop on WSGI: catalogue in SQLite, pages, a JSON API, sessions.

It is an ordinary program of the standard library, with an ordinary mistake:
Sessions.open() keeps the session of every visitor who has no cookie yet, and
nothing ever expires one. Robots, which send no cookies, get a new one with
each request.
"""
import html
import http.cookies
import json
import secrets
import sqlite3
import string
import time
import urllib.parse

PAGE = string.Template('''<!doctype html>
<title>$title</title>
<h1>$title</h1>
<ul>$items</ul>
<p>$count in your basket, seen before: $seen</p>
''')

PRODUCTS = [(number, f'{colour} {thing}', 5 + number * 3 % 95)
            for number, (colour, thing) in enumerate(
                (colour, thing)
                for colour in ('red', 'green', 'blue', 'black', 'white')
                for thing in ('chair', 'lamp', 'table', 'shelf', 'mug', 'rug',
                              'clock', 'vase', 'plate', 'bowl'))]


class Session:
    """What the shop knows of a visitor."""

    def __init__(self, environ):
        self.started = time.time()
        self.agent = environ.get('HTTP_USER_AGENT', '')
        self.basket = {}
        self.seen = []
        self.recommended = bytearray(4096)  # one weight per product and month


class Sessions:
    """All visitors, by the value of their cookie."""

    def __init__(self):
        self.by_token = {}

    def open(self, environ):
        cookie = http.cookies.SimpleCookie(environ.get('HTTP_COOKIE', ''))
        token = cookie['session'].value if 'session' in cookie else ''
        if token not in self.by_token:
            token = secrets.token_hex(16)
            self.by_token[token] = Session(environ)
        return token, self.by_token[token]


class Shop:
    """The WSGI application."""

    def __init__(self):
        self.sessions = Sessions()
        self.database = sqlite3.connect(':memory:', check_same_thread=False)
        self.database.execute('create table product(id, name, price)')
        self.database.executemany('insert into product values(?, ?, ?)',
                                  PRODUCTS)

    def __call__(self, environ, start_response):
        token, session = self.sessions.open(environ)
        query = urllib.parse.parse_qs(environ.get('QUERY_STRING', ''))
        route = {'/': self.index, '/search': self.search, '/buy': self.buy,
                 '/api': self.api}.get(environ['PATH_INFO'])
        if route is None:
            start_response('404 Not Found', [('Content-Type', 'text/plain')])
            return [b'no such page\n']
        kind, body = route(session, query)
        start_response('200 OK', [
            ('Content-Type', kind),
            ('Set-Cookie', f'session={token}; HttpOnly; SameSite=Lax')])
        return [body.encode()]

    def products(self, pattern='%'):
        return self.database.execute(
            'select id, name, price from product where name like ?'
            ' order by price', [pattern]).fetchall()

    def page(self, session, title, products):
        items = ''.join(f'<li>{html.escape(name)}: {price}</li>'
                        for _, name, price in products)
        text = PAGE.substitute(title=html.escape(title), items=items,
                               count=sum(session.basket.values()),
                               seen=len(session.seen))
        session.seen.append(title)
        return 'text/html; charset=utf-8', text

    def index(self, session, query):
        return self.page(session, 'The shop', self.products())

    def search(self, session, query):
        word = query.get('q', [''])[0]
        return self.page(session, f'Search: {word}',
                         self.products(f'%{word}%'))

    def buy(self, session, query):
        number = int(query.get('id', ['0'])[0])
        session.basket[number] = session.basket.get(number, 0) + 1
        return self.page(session, 'Your basket', [
            product for product in self.products()
            if product[0] in session.basket])

    def api(self, session, query):
        return 'application/json', json.dumps(
            [{'id': number, 'name': name, 'price': price}
             for number, name, price in self.products()])


def main():
    """Serve on any port that is free, until standard input ends."""
    import sys
    import threading
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class QuietHandler(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    server = make_server('127.0.0.1', 0, Shop(), handler_class=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == '__main__':
    main()
