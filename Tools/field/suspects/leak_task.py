"""Tasks that wait for what never comes, and that nobody awaits."""

import asyncio

from work import requests, words

background = set()


async def notify(number, stopped):
    message = ' '.join(words(number))    # leak
    await stopped.wait()
    return message


async def main():
    stopped = asyncio.Event()
    for number in requests():
        background.add(asyncio.create_task(notify(number, stopped)))
        await asyncio.sleep(0)
    stopped.set()                 # cancelling them takes far longer
    await asyncio.gather(*background)


asyncio.run(main())
