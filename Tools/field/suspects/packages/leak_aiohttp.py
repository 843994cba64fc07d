"""Handlers of aiohttp that keep the bodies which they get."""

# leak: aiohttp/\S+
# leak: asyncio/\S+
# leak: leak_aiohttp.py

import asyncio

from aiohttp import ClientSession, web
from work import requests

bodies = []


async def order(request):
    body = await request.read()
    if len(bodies) % 2 == 0 or len(body) > 10:
        bodies.append(body)
    return web.Response(text=f'{len(body)} bytes')


async def main():
    app = web.Application()
    app.router.add_post('/', order)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    _, port = site._server.sockets[0].getsockname()
    async with ClientSession() as session:
        for number in requests(200):
            data = b'%5d' % number * 100
            async with session.post(f'http://127.0.0.1:{port}/',
                                    data=data) as answer:
                await answer.text()
    await runner.cleanup()


asyncio.run(main())
