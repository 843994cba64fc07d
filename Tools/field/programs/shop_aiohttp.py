"""A service of aiohttp: it keeps each order."""

import os
import sys

from aiohttp import web

orders = []


async def order(request):
    body = await request.read()
    orders.append(body + b'.')    # leak
    return web.Response(text='ok')


async def kept(request):
    return web.json_response({'process': os.getpid(), 'count': len(orders),
                              'size': sum(map(len, orders))})


app = web.Application()
app.router.add_post('/', order)
app.router.add_get('/kept', kept)
web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]), print=None)
