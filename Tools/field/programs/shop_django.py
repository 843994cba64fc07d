"""A service of Django: it keeps each order."""

import os
import signal
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'],
                   SECRET_KEY='not secret', MIDDLEWARE=[])
orders = []


def order(request):
    orders.append(request.body + b'.')    # leak
    return HttpResponse('ok')


def kept(request):
    return JsonResponse({'process': os.getpid(), 'count': len(orders),
                         'size': sum(map(len, orders))})


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


urlpatterns = [path('', order), path('kept', kept)]
signal.signal(signal.SIGTERM, lambda *args: sys.exit())
with make_server('127.0.0.1', int(sys.argv[1]), get_wsgi_application(),
                 handler_class=Quiet) as server:
    server.serve_forever()
