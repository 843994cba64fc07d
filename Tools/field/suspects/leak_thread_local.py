"""Data of a thread that lives as long as the service."""

import queue
import threading

from work import requests

local = threading.local()
numbers = queue.Queue(10)


def serve():
    local.seen = []
    while (number := numbers.get()) is not None:
        local.seen.append(f'seen by this thread: {number}')    # leak
        numbers.task_done()


thread = threading.Thread(target=serve)
thread.start()
for number in requests():
    numbers.put(number)
    numbers.join()
numbers.put(None)
thread.join()
