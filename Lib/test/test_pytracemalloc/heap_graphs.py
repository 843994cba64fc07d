"""Heap graphs at random, and what a snapshot has of one."""

import _testtracer
from test.test_pytracemalloc.made_graphs import IMMORTAL, NONE, UNCOUNTED
from test.test_pytracemalloc.made_graphs import Graph, Object

NFIXED = 4                      # objects that are none
NFIXED_SHAPES = 5
NKINDS = 15


def make_snapshot(objects, shapes=(), buffers=(), keys=False):
    """Return a snapshot with a graph, and blocks at two lines.

    *objects*: (address, type, shape, surplus, text or None, references), the
    fixed ones first; *shapes*: (kind, names), after the fixed ones;
    *buffers*: (address, object).
    """
    graph = Graph()
    graph.objects = []
    graph.shapes = {(kind, ()): kind for kind in range(NFIXED_SHAPES)}
    for number, (address, type_, shape, surplus, text, references) in (
            enumerate(objects)):
        made = Object(number, address, shape)
        made.type = type_
        made.surplus = surplus
        made.text = NONE if text is None else graph.string(text)
        made.references = references
        graph.objects.append(made)
    for kind, names in shapes:
        graph.shape(kind, *names)
    graph.buffers = buffers
    graph.has_keys = keys
    for size in 16, 32, 16:
        graph.block(size, ('app.py', size))
    return graph.snapshot()


def get_graph(snapshot):
    """Return (objects, shapes, buffers, keys) as those above, or None."""
    return _testtracer.get_graph(snapshot.traces._traces)


def random_graph(rng, nobjects, degree=4):
    """Return arguments of make_snapshot().

    Objects refer to what was not met yet, to near ones and to any; types,
    shapes, addresses and texts come in runs, as those of real heaps do, and
    some at random.
    """
    shapes = [(rng.randrange(NKINDS),
               tuple(f'.attribute{i} {j}' for j in range(rng.randrange(1, 5))))
              for i in range(rng.randrange(1, 12))]
    shapes.append((NKINDS - 1, ()))
    objects = []
    met = NFIXED
    address, type_, shape, count = 2 ** 40, 0, 0, 0
    for i in range(nobjects):
        met = max(met, i + 1)
        if rng.random() < 0.3:
            type_ = rng.randrange(nobjects) if rng.random() < 0.8 else 0
            shape = rng.randrange(NFIXED_SHAPES + len(shapes))
            count = rng.randrange(2 * degree)
        names = () if shape < NFIXED_SHAPES else shapes[shape
                                                        - NFIXED_SHAPES][1]
        references = []
        for _ in range(0 if i == 0 else len(names) + count):
            choice = rng.random()
            if choice < 0.3 and met < nobjects:
                references.append(met)
                met += 1
            elif choice < 0.5:
                references.append(max(1, rng.randrange(max(0, i - 20), i + 1)))
            elif choice < 0.6:
                references.append(0)
            else:
                references.append(rng.randrange(1, nobjects))
        address += rng.choice((64, 64, 64, -4096, 8, 2 ** 33))
        objects.append((
            0 if i < NFIXED else address % 2 ** 64, type_ if i else 0,
            shape if i else 0,
            rng.choice((0, 0, 0, 1, 7, IMMORTAL, UNCOUNTED)),
            f'text {i}' if rng.random() < 0.3 else None, tuple(references)))
    buffers = [(objects[owner][0] + rng.randrange(0, 2 ** 20, 8), owner)
               for owner in sorted(rng.choices(range(nobjects),
                                               k=nobjects // 3))]
    return objects, shapes, buffers, rng.random() < 0.5
