"""The shop under aiohttp: one thread, an event loop.

    python aiohttp_service.py DATABASE [SAMPLES KIND]

The first line of output is the port on 127.0.0.1. With SAMPLES, a file, a
snapshot of that kind is taken each second (watch.py). The service ends when
its standard input does.
"""

import asyncio
import signal
import sys

from aiohttp import web

import lifeline
import shop


async def serve(database):
    goods = shop.Shop(database)

    async def answer(request):
        body = await request.read()
        kind, data = goods.handle(request.method, request.path, body)
        return web.Response(body=data, content_type=kind)

    app = web.Application()
    app.router.add_route('*', '/{path:.*}', answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == '__main__':
    lifeline.hold()
    if len(sys.argv) > 2:
        import watch
        watch.start(*sys.argv[2:])
    asyncio.run(serve(sys.argv[1]))
