"""Programs that look at the law of the heap graph while they run: in
callbacks, finalizers, generators, threads.  Prints what broke it."""

import asyncio
import collections
import contextlib
import contextvars
import functools
import gc
import itertools
import json
import re
import sys
import threading
import weakref

import _testtracer

places = 0


def law(where):
    """Look, and end the program where the law is broken."""
    global places
    places += 1
    found = _testtracer.heap_law()
    if found['broken']:
        sys.exit(f"{where}: {found['broken types']}")
    return found


def look_in_frames():
    def generator():
        kept = [1, 2]
        law('generator that runs')
        yield kept
        law('generator that goes on')

    def recurse(n):
        if n == 0:
            raise KeyError('deep')
        recurse(n - 1)

    values = generator()
    next(values)
    law('generator that waits')
    list(values)
    try:
        recurse(30)
    except KeyError:
        law('exception that is handled')
    with contextlib.suppress(KeyError):
        try:
            {}['a']
        finally:
            law('finally')
    exec("law('exec')", {'law': law})
    sys.settrace(lambda *event: None)
    law('trace function')
    sys.settrace(None)
    sorted([3, 1, 2], key=lambda x: (law('list that is sorted'), x)[1])
    list(map(law, ['map']))
    re.sub('a', lambda match: (law('re.sub'), 'b')[1], 'xax')
    json.loads('{"a": [1, 2]}', object_hook=lambda d: (law('json'), d)[1])


def look_in_tasks():
    async def values():
        yield [1]

    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(60)) for i in range(5)]
        law('tasks')
        await asyncio.sleep(0)
        law('tasks that wait')
        async for value in values():
            law('asynchronous generator')
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def look_at_the_end_of_objects():
    class Finalized:
        __slots__ = 'first', 'second'

        def __del__(self):
            law('__del__')

    class Cyclic:
        def __del__(self):
            law('__del__ in a collection')

    class Plain:
        pass

    finalized = Finalized()
    finalized.first = [1]
    del finalized
    cyclic = Cyclic()
    cyclic.self = cyclic
    del cyclic
    gc.collect()
    plain = Plain()
    reference = weakref.ref(plain, lambda ref: law('callback'))
    del plain
    assert reference() is None
    gc.callbacks.append(lambda phase, info: law('collector, ' + phase))
    gc.collect()
    gc.callbacks.clear()


def look_at_classes():
    class Meta(type):
        def __new__(meta, *args):
            law('metaclass')
            return super().__new__(meta, *args)

    class Slots(metaclass=Meta):
        __slots__ = 'a', 'b', '__dict__'

    class Derived(dict):
        pass

    class Items(list):
        __slots__ = 'note',

    class Ordered(collections.OrderedDict):
        pass

    kept = [Slots(), Derived(a=1), Items([1, 2]), Ordered(b=[2]),
            collections.defaultdict(list, {1: 2}), collections.Counter('abc'),
            collections.deque([[1]]), frozenset([1]), bytearray(99),
            itertools.count(), range(10 ** 9), memoryview(b'abc'),
            functools.partial(law, 'partial'), property(law), slice([1], [2])]
    kept[0].a = [kept]
    kept[0].other = {}
    kept[1].more = {}
    kept[2].note = 'note'
    kept[0].__dict__
    law('subclasses')
    del kept[0].a


def look_at_caches():
    @functools.lru_cache(10)
    def cached(x):
        law('cached function')
        return [x]

    for i in range(20):
        cached(i % 12)
    local = threading.local()
    local.value = [1]
    variable = contextvars.ContextVar('variable')
    variable.set([1])
    law('thread local, context variable')
    for key, value in {i: [i] for i in range(10)}.items():
        law('dictionary')


def look_beside_threads():
    stop = threading.Event()

    def work():
        kept = []
        while not stop.is_set():
            kept.append({str(i): i for i in range(10)})
            kept[:-5] = []
            sorted(range(100), key=lambda x: -x)

    threads = [threading.Thread(target=work) for i in range(4)]
    for thread in threads:
        thread.start()
    for i in range(5):
        law('threads')
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == '__main__':
    for part in (look_in_frames, look_in_tasks, look_at_the_end_of_objects,
                 look_at_classes, look_at_caches, look_beside_threads):
        part()
    last = law('end')
    print(json.dumps({'places': places, 'surplus': last['surplus types'],
                      'mortal': last['mortal']}))
