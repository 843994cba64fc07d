"""Workloads of control flow: generators, coroutines, exceptions, recursion.

The deep ones are those a whole-stack tracer fears most: every level of the
recursion allocates, and each resumption puts other frames under the top one.
"""

import contextlib
import sys

from . import workload


class Tree:
    def __init__(self, low, high):
        middle = (low + high) // 2
        self.value = middle
        make = type(self)
        self.left = make(low, middle) if low < middle else None
        self.right = make(middle + 1, high) if middle + 1 < high else None

    def __iter__(self):
        if self.left:
            yield from self.left
        yield self.value
        if self.right:
            yield from self.right


@workload(610)
def generators(loops):
    """A tree walked by nested generators."""
    tree = Tree(0, 4000)
    for _ in range(loops):
        for _ in tree:
            pass


async def fibonacci(n):
    if n < 2:
        return n
    return await fibonacci(n - 1) + await fibonacci(n - 2)


@workload(440)
def coroutines(loops):
    """Recursive coroutines: Fibonacci by await."""
    for _ in range(loops):
        try:
            fibonacci(19).send(None)
        except StopIteration:
            pass


@workload(10)
def async_tree(loops):
    """asyncio: a tree of gathered tasks, six wide and five deep."""
    import asyncio

    async def spread(depth):
        if depth == 0:
            return 1
        return sum(await asyncio.gather(*[spread(depth - 1)
                                          for _ in range(6)]))

    for _ in range(loops):
        asyncio.run(spread(5))


@workload(6)
def async_tasks(loops):
    """asyncio: 5,000 tasks alive at once, each sleeping and queueing."""
    import asyncio

    async def one(number, queue):
        await asyncio.sleep(0)
        await queue.put([number])
        await asyncio.sleep(0)

    async def all_of_them():
        queue = asyncio.Queue()
        tasks = [asyncio.create_task(one(i, queue)) for i in range(5000)]
        for _ in tasks:
            await queue.get()
        await asyncio.gather(*tasks)

    for _ in range(loops * 2):
        asyncio.run(all_of_them())


@workload(970)
def async_generators(loops):
    """Asynchronous generators and comprehensions, driven by hand."""
    async def count(n):
        for i in range(n):
            yield [i]

    async def consume():
        return [item async for item in count(1200) if item]

    for _ in range(loops * 3):
        try:
            consume().send(None)
        except StopIteration:
            pass


@workload(1500)
def exceptions(loops):
    """Exceptions raised through five levels, with finally and with."""
    @contextlib.contextmanager
    def guard():
        try:
            yield
        finally:
            pass

    def fail(depth):
        if depth == 0:
            raise ValueError([depth])
        try:
            fail(depth - 1)
        except KeyError:
            pass

    for _ in range(loops * 150):
        try:
            with guard():
                fail(5)
        except ValueError:
            pass


def descend(depth):
    kept = [depth]
    if depth:
        return descend(depth - 1) + len(kept)
    return 0


@workload(1000)
def deep_recursion(loops):
    """900 calls deep, an allocation kept alive at each level."""
    sys.setrecursionlimit(3000)
    for _ in range(loops * 3):
        descend(900)


@workload(70)
def deep_churn(loops):
    """An inner loop of allocations at 900 changing depths."""
    def down(depth):
        for i in range(20):
            [i]
        if depth:
            down(depth - 1)
        [depth]

    sys.setrecursionlimit(3000)
    for _ in range(loops * 10):
        down(900)


@workload(57)
def recursive_generators(loops):
    """Generators nested 300 deep, each passing a new list on."""
    def layer(depth):
        if depth == 0:
            for i in range(20):
                yield [i]
        else:
            for item in layer(depth - 1):
                yield [item[0]]

    sys.setrecursionlimit(3000)
    for _ in range(loops * 40):
        for _ in layer(300):
            pass


@workload(160)
def recursive_coroutines(loops):
    """Coroutines that await 300 deep and allocate on the way back."""
    class Pause:
        def __await__(self):
            yield

    async def layer(depth):
        kept = [depth]
        if depth:
            kept.append(await layer(depth - 1))
        await Pause()
        return kept

    sys.setrecursionlimit(3000)
    for _ in range(loops * 7):
        coroutine = layer(300)
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass


@workload(770)
def closures(loops):
    """Closures, partials and decorated calls with keyword arguments."""
    import functools

    def adder(n):
        def add(*args, **kwargs):
            return sum(args) + n + len(kwargs)
        return functools.wraps(adder)(add)

    for _ in range(loops * 100):
        add = adder(3)
        for i in range(10):
            functools.partial(add, i, key=i)(1, other=2)
