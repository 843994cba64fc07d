"""What both services do: a shop, with SQLite, templates, JSON and caches.

The shop knows nothing of a web framework: handle() takes a method, a path
and a body, and returns a content type and bytes. What it remembers is
bounded: a cache whose entries expire and are dropped all at once now and
then, sessions that end, orders of which the oldest are deleted.
"""

import collections
import json
import random
import sqlite3
import string
import threading
import time

import jinja2

PRODUCTS = 2000
ORDERS = 5000                     # kept in the database
SESSIONS = 1000
CACHED = 400
CACHE_SECONDS = 10
DROP_SECONDS = 45                 # then the cache is dropped as a whole
WORDS = 500

PAGE = '''<!DOCTYPE html>
<html><head><title>{{ title }}</title></head><body>
<h1>{{ title }}</h1>
<table>
{%- for item in items %}
<tr class="{{ loop.cycle('odd', 'even') }}"><td>{{ item.name|title }}</td>
<td>{{ '%.2f'|format(item.price / 100) }}</td>
<td>{% for tag in item.tags %}<i>{{ tag }}</i>{% if not loop.last %}, {% endif
%}{% endfor %}</td></tr>
{%- endfor %}
</table></body></html>
'''

SCHEMA = '''
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, price INTEGER,
                      tags TEXT, text TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, placed REAL,
                     total INTEGER);
CREATE TABLE line (orders INTEGER, product INTEGER, amount INTEGER);
CREATE INDEX line_orders ON line (orders);
CREATE INDEX line_product ON line (product);
'''


class Shop:
    """Thread-safe; each thread has a connection of its own to *path*."""

    def __init__(self, path):
        self._path = path
        self._local = threading.local()
        self._cache = Cache(CACHED, CACHE_SECONDS)
        self._dropped = time.monotonic()
        self._sessions = collections.OrderedDict()
        self._lock = threading.Lock()
        self._page = jinja2.Environment(autoescape=True).from_string(PAGE)
        self._by_word = self._fill()

    def handle(self, method, path, body):
        now = time.monotonic()
        if now - self._dropped > DROP_SECONDS:
            self._dropped = now
            self._cache.clear()
        kind, _, argument = path.lstrip('/').partition('/')
        if method == 'POST' and kind == 'order':
            return 'application/json', self._order(json.loads(body))
        if kind == 'product':
            return 'application/json', self._product(int(argument))
        if kind == 'page':
            return 'text/html', self._list(int(argument))
        if kind == 'search':
            return 'application/json', self._search(int(argument))
        if kind == 'report':
            return 'text/csv', self._report()
        raise KeyError(path)

    def _fill(self):
        chance = random.Random(1)
        words = [''.join(chance.choices(string.ascii_lowercase, k=7))
                 for _ in range(WORDS)]
        base = self._connection()
        base.executescript(SCHEMA)
        index = collections.defaultdict(list)
        for number in range(PRODUCTS):
            name = ' '.join(chance.choices(words, k=3))
            tags = chance.sample(words, 4)
            text = ' '.join(chance.choices(words, k=60))
            base.execute('INSERT INTO product VALUES (?, ?, ?, ?, ?)',
                         (number, name, chance.randrange(100, 99999),
                          json.dumps(tags), text))
            for word in set(text.split()):
                index[word].append(number)
        base.commit()
        return [index[word] for word in words]

    def _connection(self):
        base = getattr(self._local, 'base', None)
        if base is None:
            base = self._local.base = sqlite3.connect(self._path, timeout=30)
            base.execute('PRAGMA journal_mode = WAL')
            base.execute('PRAGMA synchronous = OFF')
            base.row_factory = sqlite3.Row
        return base

    def _load(self, number):
        key = 'product', number
        product = self._cache.get(key)
        if product is None:
            row, = self._connection().execute(
                'SELECT * FROM product WHERE id = ?', (number,))
            product = dict(row) | {'tags': json.loads(row['tags'])}
            sold, = self._connection().execute(
                'SELECT coalesce(sum(amount), 0) FROM line WHERE product = ?',
                (number,)).fetchone()
            product['sold'] = sold
            self._cache.put(key, product)
        return product

    def _product(self, number):
        product = self._load(number)
        near = [self._load((number + step) % PRODUCTS) for step in (1, 2, 3)]
        return json.dumps(product | {
            'words': collections.Counter(product['text'].split()),
            'near': [{'id': other['id'], 'name': other['name']}
                     for other in near]}).encode()

    def _list(self, number):
        key = 'page', number
        page = self._cache.get(key)
        if page is None:
            items = [self._load((number * 10 + step) % PRODUCTS)
                     for step in range(20)]
            page = self._page.render(title=f'Page {number}',
                                     items=items).encode()
            self._cache.put(key, page)
        return page

    def _search(self, number):
        found = self._by_word[number % WORDS][:10]
        return json.dumps([{**self._load(number), 'text': None}
                           for number in found]).encode()

    def _order(self, order):
        base = self._connection()
        lines = [(int(line['product']), int(line['amount']))
                 for line in order['lines']]
        total = sum(self._load(product)['price'] * amount
                    for product, amount in lines)
        customer = str(order['customer'])
        with self._lock, base:
            number = base.execute(
                'INSERT INTO orders (customer, placed, total) '
                'VALUES (?, ?, ?)', (customer, time.time(), total)).lastrowid
            base.executemany('INSERT INTO line VALUES (?, ?, ?)',
                             [(number, *line) for line in lines])
            base.execute('DELETE FROM orders WHERE id = ?',
                         (number - ORDERS,))
            base.execute('DELETE FROM line WHERE orders = ?',
                         (number - ORDERS,))
            session = self._sessions.pop(customer, None) or {'orders': []}
            session['orders'] = session['orders'][-9:] + [number]
            session['seen'] = time.time()
            self._sessions[customer] = session
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        return json.dumps({'order': number, 'total': total,
                           'before': session['orders']}).encode()

    def _report(self):
        rows = self._connection().execute(
            'SELECT * FROM orders ORDER BY id DESC LIMIT 100').fetchall()
        customers = collections.defaultdict(list)
        for row in rows:
            customers[row['customer']].append(dict(row))
        lines = [f'{name},{len(orders)},{sum(o["total"] for o in orders)}'
                 for name, orders in sorted(customers.items())]
        return '\n'.join(['customer,orders,total', *lines, '']).encode()


class Cache:
    """At most *limit* values, none older than some seconds."""

    def __init__(self, limit, seconds):
        self._limit = limit
        self._seconds = seconds
        self._values = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key):
        with self._lock:
            value, end = self._values.get(key, (None, 0.0))
            return value if end > time.monotonic() else None

    def put(self, key, value):
        with self._lock:
            self._values[key] = value, time.monotonic() + self._seconds
            self._values.move_to_end(key)
            while len(self._values) > self._limit:
                self._values.popitem(last=False)

    def clear(self):
        with self._lock:
            self._values.clear()
