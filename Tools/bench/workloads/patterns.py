"""Small patterns, each of which does little but one thing to the allocator.

In a program they are a part of the time; alone they show what that one thing
costs a tracer.
"""

import random
import re

from . import workload
from .flow import Tree

CALLER = '''
def caller(depth):
    kept = [depth]
    if depth:
        choice(functions)(depth - 1)
        choice(functions)(depth - 1)
    return kept
'''


@workload(400, quick=False)
def growing_string(loops):
    """A string of 60,000 characters that grows in place, three at a time."""
    for _ in range(loops):
        text = ''
        for _ in range(20_000):
            text += 'abc'


@workload(3_600, quick=False)
def big_blocks(loops):
    """Blocks over 512 bytes that replace each other."""
    for _ in range(loops):
        for _ in range(400):
            bytes(600)
        for _ in range(400):
            bytes(5000)


@workload(10_000, quick=False)
def many_sites(loops):
    """300 functions in turn that make a list at each of three lines."""
    functions = []
    for i in range(300):
        scope = {}
        exec(f'def f{i}():\n    a = [1]\n    b = [2]\n    c = [3]\n', scope)
        functions.append(scope[f'f{i}'])
    for _ in range(loops):
        for function in functions:
            function()


@workload(480, quick=False)
def evaluated(loops):
    """eval() of a string: code that is compiled, run once and dropped."""
    scope = {'x': 1}
    for _ in range(loops):
        for _ in range(100):
            eval('x + 1', scope)


@workload(16_000, quick=False)
def find_all(loops):
    """re.findall(): many short strings."""
    text = 'foo12 bar34 baz56 ' * 40
    word = re.compile(r'[a-z]+\d')
    for _ in range(loops):
        word.findall(text)


@workload(60_000, quick=False)
def big_integers(loops):
    """Integers of some hundred digits."""
    x, y = 3 ** 200, 7 ** 150
    for _ in range(loops * 10):
        z = x * y + x - y
        z //= 12345


@workload(110, quick=False)
def random_calls(loops):
    """Functions that call each other at random: a tree of many paths."""
    functions = []
    scope = {'choice': random.Random(1).choice, 'functions': functions}
    for i in range(3):
        exec(compile(CALLER, f'<caller {i}>', 'exec'), scope)
        functions.append(scope['caller'])
    for _ in range(loops):
        functions[0](12)


class AsyncTree(Tree):
    async def __aiter__(self):
        if self.left:
            async for value in self.left:
                yield value
        yield self.value
        if self.right:
            async for value in self.right:
                yield value


@workload(6, quick=False)
def large_tree(loops):
    """A tree of 100,000 nodes, walked by nested generators: as many paths."""
    tree = Tree(0, 100_000)
    for _ in range(loops):
        for _ in tree:
            pass


@workload(1, quick=False)
def large_async_tree(loops):
    """The same tree, walked by nested asynchronous generators."""
    async def walk():
        async for _ in tree:
            pass

    tree = AsyncTree(0, 100_000)
    for _ in range(loops):
        try:
            walk().send(None)
        except StopIteration:
            pass
