"""A web shop that keeps the basket of each visitor for ever."""
import http.server
import os
import urllib.parse

BASKETS = []


class Basket:

    def __init__(self, query):
        self.things = urllib.parse.parse_qs(query)
        self.picture = bytes(100_000)


class Shop(http.server.BaseHTTPRequestHandler):

    def do_GET(self):
        BASKETS.append(Basket(urllib.parse.urlsplit(self.path).query))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'{len(BASKETS)} baskets\n'.encode())

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(
    ('', int(os.environ.get('PORT', '8000'))), Shop).serve_forever()
