"""Snapshots whose writer means harm to whoever opens them."""

import contextlib
import io
import types

import tracemalloc
from tracemalloctext.command_091 import main as legacy_main
from tracemalloctext.command_line import main as text_main

# What terminals obey or that hides what is there: escape sequences of one and
# of two bytes, carriage return, backspace, marks of direction, separators.
NASTY = ('a\x1b]0;t\x07\x1b[31m\x9b2J\x7f\r\n\t\x08b\x00c\u202ed\u2066e\u200f'
         'f\u061cg\u2028h\u2029i\x85j\ufeffk\ud800l')
# A type has no other names.
NASTY_TYPE = NASTY.replace('\0', '').replace('\ud800', '')


def nasty_snapshot(count=10_000):
    """Most of its blocks are of a function, a file and a type of that name."""
    made = {}
    exec('def make(kind, count):\n'
         '    return [kind() for _ in range(count)]\n', made)
    code = made['make'].__code__.replace(
        co_filename=f'/{NASTY}.py', co_name=NASTY, co_qualname=NASTY)
    make = types.FunctionType(code, made)
    kind = type(NASTY_TYPE, (), {'__module__': NASTY_TYPE})
    tracemalloc.start(3)
    kept = make(kind, count)
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    del kept
    snapshot.metadata |= {
        NASTY: NASTY, 'metrics': {NASTY: [5, 'int']},
        'user_data': [[NASTY, 'size', 5]], 'process_memory': 10 ** 6}
    return snapshot


def nasty_graph(name=NASTY):
    """Everything in it has that name."""
    from test.test_pytracemalloc.made_graphs import PLAIN, Graph
    graph = Graph()
    place = f'/{name}.py', 1
    kind = graph.cls(name, name)
    made = graph.add_named(PLAIN, {f'.{name}': graph.add(
        PLAIN, type=kind, size=100, place=place)}, type=kind, size=100,
        place=place)
    graph.module(name, **{name: made})
    return graph


def text_command(*args, legacy=False):
    """Call python -m tracemalloctext, or tracemalloc: return (status, what it
    has written to either stream)."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = (legacy_main if legacy else text_main)(args)
        except SystemExit as exc:
            status = exc.code
    return status, output.getvalue()
