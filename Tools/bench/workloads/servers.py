"""Workloads of services: a WSGI application under load, a fork server."""

import io
import os
import sys
import urllib.parse
from wsgiref import util, validate
from wsgiref.handlers import SimpleHandler

from . import workload


def shop(environ, start_response):
    """A WSGI application: routing, a query, a session, a page."""
    query = urllib.parse.parse_qs(environ['QUERY_STRING'])
    page = int(query.get('page', ['1'])[0])
    rows = [{'id': i, 'name': f'thing {i}', 'price': i * 0.99}
            for i in range(page * 10, page * 10 + 20)]
    body = ''.join(f"<li>{row['id']}: {row['name']} {row['price']:.2f}</li>"
                   for row in rows)
    start_response('200 OK', [('Content-Type', 'text/html; charset=utf-8')])
    return [f'<ul>{body}</ul>'.encode()]


@workload(2100)
def wsgi(loops):
    """A validated WSGI application, three requests a loop, no socket."""
    application = validate.validator(shop)
    for i in range(loops * 3):
        environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/items',
                   'SCRIPT_NAME': '', 'QUERY_STRING': f'page={i % 9}'}
        util.setup_testing_defaults(environ)
        out = io.BytesIO()
        handler = SimpleHandler(io.BytesIO(), out, sys.stderr, environ,
                                multithread=False)
        handler.server_software = ''
        handler.run(application)


@workload(98)
def http_server(loops):
    """http.server and a client over the loopback, in two threads."""
    import http.client
    import threading
    from wsgiref.simple_server import (WSGIRequestHandler, make_server)

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    server = make_server('127.0.0.1', 0, shop, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        for i in range(loops * 10):
            client = http.client.HTTPConnection('127.0.0.1',
                                                server.server_port)
            client.request('GET', f'/items?page={i % 9}')
            client.getresponse().read()
            client.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@workload(160)
def fork_server(loops):
    """A parent with a warm heap that forks a child for each request."""
    cache = {i: [i, str(i)] for i in range(50_000)}
    for i in range(loops):
        pid = os.fork()
        if pid == 0:
            rows = [[cache[j][1], j] for j in range(i, i + 5000)]
            os._exit(0 if rows else 1)
        os.waitpid(pid, 0)
