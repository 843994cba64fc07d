"""A random program that makes objects of every kind, and keeps some of them.

Run in a process of its own by tests that compare what the tracer says of it
with what is true.
"""
import array
import asyncio
import collections
import contextvars
import decimal
import functools
import gc
import io
import itertools
import random
import threading
import types
import weakref

variable = contextvars.ContextVar('variable')


class Plain:
    def __init__(self, i):
        self.i = i
        self.other = None


class Slots(list):
    __slots__ = 'x', 'y', '__weakref__'


class Number(float):
    pass


class Pair(tuple):
    pass


class Mapping(dict):
    def __missing__(self, key):
        return [key]


class Oops(ValueError):
    pass


class Finalised:
    def __del__(self):
        self.late = [1.5, {}]


def generator(i):
    for j in range(i % 5):
        yield [j, float(j)]


def delegating(i):
    yield from generator(i)
    yield (i, i)


async def coroutine(i):
    return [i] * (i % 50)


async def agenerator(i):
    for j in range(i % 7):
        yield {j: j}


def run(coro):
    try:
        while True:
            coro.send(None)
    except StopIteration as stop:
        return stop.value


async def comprehension(i):
    return [item async for item in agenerator(i)]


def cycle(i):
    a, b = Plain(i), Plain(-i)
    a.other, b.other = b, a
    return a


def fail(i):
    try:
        raise Oops(i)
    except Oops as exc:
        return exc if i % 2 else None


def fail_deep(i):
    try:
        return fail_deep(i - 1) if i % 30 else [].pop()
    except IndexError as exc:
        exc.add_note('deep')
        raise


def fail_group(i):
    try:
        raise ExceptionGroup('group', [Oops(i), MemoryError()])
    except* Oops:
        kept = [i]
    except* MemoryError:
        pass
    return kept


def deep(i):
    try:
        fail_deep(i)
    except IndexError as exc:
        return exc


def thrown(i):
    suspended = delegating(i + 5)
    next(suspended)
    try:
        suspended.throw(Oops)
    except Oops as exc:
        return exc


def closed(i):
    suspended = delegating(i + 2)
    next(suspended)
    suspended.close()


def in_context(i):
    # One variable: the tree of two has a shape that their addresses decide.
    context = contextvars.Context()
    context.run(variable.set, [i])
    return context.copy()


def counted(i):
    return collections.Counter(str(i) * 20)


def executed(i):
    scope = {}
    exec(f'class Made:\n    x = [{i}]\n    def f(self):\n        return (self,'
         f' {i}.5)\nmade = Made().f()', scope)
    return scope['made']


def writer(i):
    file = io.StringIO()
    file.write('x' * i)
    return file.getvalue(), io.BytesIO(bytes(i))


def weak(i):
    target = Plain(i)
    return target, weakref.ref(target), weakref.WeakValueDictionary(
        {1: target})


def resized(i):
    grown = []
    for j in range(i % 200):
        grown.append(j)
    del grown[i % 10:]
    return grown


def unpacked(i):
    first, *rest = range(i % 20 + 1)
    return {**{'a': first}, 'b': (*rest,)}


MAKERS = [
    bytes, bytearray, lambda i: [0] * i, lambda i: 'x' * i,
    lambda i: {j: str(j) for j in range(i % 70)},
    lambda i: {j * 1.5 for j in range(i % 40)}, lambda i: tuple(range(i % 30)),
    lambda i: frozenset(range(i % 50)), lambda i: i + 0.5,
    lambda i: complex(i, i), lambda i: 1 << i, lambda i: 'caf\u00e9' * (i % 99),
    lambda i: '\U0001f40d' * (i % 99), slice, range, lambda i: object(),
    lambda i: None,
    lambda i: array.array('d', range(i % 40)), lambda i: decimal.Decimal(i),
    lambda i: memoryview(bytes(i))[1:], lambda i: functools.partial(max, i),
    lambda i: types.SimpleNamespace(i=i), lambda i: property(lambda self: i),
    lambda i: itertools.chain([i], (i,)), lambda i: enumerate([i]),
    lambda i: zip([i], (i,)), lambda i: reversed([i]), lambda i: iter({i: i}),
    lambda i: collections.deque(range(i % 99)), counted, lambda i: super,
    lambda i: collections.OrderedDict.fromkeys(range(i % 9)),
    lambda i: collections.defaultdict(list, {i: [i]}),
    lambda i: type('T', (Plain,), {'x': i}), lambda i: lambda: i,
    lambda i: types.MethodType(len, [i]), lambda i: bytes(i).split(b'\0', i),
    lambda i: compile('x = [%d]' % i, 'made', 'exec'),
    Plain, lambda i: Slots(range(i % 9)), Number,
    lambda i: Pair(range(i % 25)), lambda i: Mapping(a=i)[i],
    lambda i: Finalised(), generator, delegating, lambda i: list(generator(i)),
    lambda i: run(coroutine(i)), lambda i: coroutine(i).close(), agenerator,
    lambda i: run(comprehension(i)), cycle, fail, fail_group, deep, thrown,
    closed, in_context, executed, writer, weak, resized, unpacked,
    lambda i: sorted(range(i % 60), key=lambda x: -x),
    lambda i: list(map(float, range(i % 60))),
    lambda i: '-'.join(str(j) for j in range(i % 60)),
    lambda i: f'{i:>{i % 700}}'.encode(), lambda i: MemoryError(i),
]


def work(seed, steps):
    """Do so many random steps; what it keeps is the result."""
    rng = random.Random(seed)
    keep = {}
    for i in range(steps):
        keep[rng.randrange(300)] = rng.choice(MAKERS)(rng.randrange(1200))
        if rng.randrange(1500) == 0:
            gc.collect(rng.randrange(3))
    return keep


LAYERS = '''
def layer(depth, rng, keep):
    # Generators in each other; the inner ones allocate most.
    often = 0.5 if depth < 3 else 0.03
    if depth == 0:
        for i in range(40):
            if rng.random() < often:
                keep.append((i, i))
            yield i
        return
    inner = layer(depth - 1, rng, keep)
    if rng.random() < 0.2:
        yield from inner
        return
    for i in inner:
        if rng.random() < often:
            keep.append([i])
        yield i
        if rng.random() < often:
            keep.append({i: i})

async def waiter(depth, rng, keep):
    # Coroutines in each other, suspended together.
    if rng.random() < 0.3:
        keep.append([depth])
    if depth:
        await waiter(depth - 1, rng, keep)
    for _ in range(rng.choice([0, 1, 1, 5])):
        await Pause()
        if rng.random() < 0.5:
            keep.append([depth])
    if rng.random() < 0.3:
        keep.append((depth, depth))
'''


class Pause:
    def __await__(self):
        yield


def step(chain):
    """Resume a chain of generators or coroutines; is there more of it?"""
    try:
        chain.send(None)
    except StopIteration:
        return False
    return True


def step_elsewhere(chain):
    return step(chain)


def chains(seed, rounds):
    """Resume chains of many depths, in turns and from different places.

    Their code is made again, on other lines, and dies with them.
    """
    rng = random.Random(seed)
    keep = []

    def resume(depth, chain):
        if depth:
            return resume(depth - 1, chain)
        if rng.random() < 0.1:
            return step_elsewhere(chain)
        elif rng.random() < 0.1:
            return step_elsewhere(chain)
        return step(chain)

    def make_chain():
        scope = {'Pause': Pause}
        source = '\n' * rng.randrange(9) + LAYERS
        exec(compile(source, 'layers', 'exec'), scope)
        make = scope[rng.choice(['layer', 'waiter'])]
        return make(rng.choice([2, 9, 30, 120, 160]), rng, keep)

    alive = []
    for _ in range(rounds):
        while len(alive) < 4:
            alive.append(make_chain())
        chain = rng.choice(alive)
        depth = rng.choice([0, 1, 7])
        for _ in range(rng.choice([1, 2, 30])):
            if rng.random() < 0.05:
                depth = rng.choice([0, 1, 7])
            if not resume(depth, chain):
                alive.remove(chain)
                break
        if rng.random() < 0.02:
            alive.pop().close()
    for chain in alive:
        chain.close()
    return keep


async def chat(n):
    queue = asyncio.Queue(3)

    async def produce():
        for i in range(n):
            await queue.put([i])
        await queue.put(None)

    async def consume():
        received = []
        while (item := await queue.get()) is not None:
            received.append(item)
        return received

    task = asyncio.create_task(produce())
    received = await asyncio.wait_for(consume(), 60)
    await task
    return received


def everything(seed, steps):
    """work(), with threads and an event loop beside it."""
    threads = [threading.Thread(target=work, args=(seed + i, steps // 4))
               for i in (1, 2)]
    for thread in threads:
        thread.start()
    kept = work(seed, steps)
    for thread in threads:
        thread.join()
    kept['chains'] = chains(seed, steps // 20)
    kept['chat'] = asyncio.run(chat(50))
    return kept
