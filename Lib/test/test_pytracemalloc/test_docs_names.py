"""The reference describes what Python programs use, and nothing else.

Each public function, class, method and attribute has a directive in
Doc/library, with the signature that it has in the program; an attribute may be
a parameter of the directive of its class instead. A word in a sentence
describes nothing.
"""
import dataclasses
import functools
import importlib
import inspect
import os
import pathlib
import re
import shutil
import tempfile
import types
import unittest

import tracemalloc
import tracemalloctext
from test.test_pytracemalloc.helpers import Tracing

LIBRARY = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''),
                       'Doc', 'library')
MODULE = re.compile(r'\.\. (?:current)?module:: ([\w.]+)$')
DIRECTIVE = re.compile(r'( *)(\.\. (function|class|method|staticmethod|'
                       r'classmethod|attribute|data):: )(\w+)(\(.*\))?$')
FOLLOWING = re.compile(r'( +)(\w+)(\(.*\))?$')
# A function that hides the thread while it runs.
HIDDEN = type(tracemalloc.take_snapshot)
KINDS = {
    'class': type,
    'function': (types.FunctionType, types.BuiltinFunctionType, HIDDEN),
    'method': (types.FunctionType, HIDDEN),
    'staticmethod': staticmethod,
    'classmethod': classmethod,
    'attribute': (property, types.MemberDescriptorType,
                  types.GetSetDescriptorType),
    'data': (str, int),
}
FRAMES = (('a.py', 1),)


@functools.cache
def objects():
    """One of each class: attributes that __init__() sets are seen on an object
    alone."""
    with Tracing():                 # DisplayGarbage() starts it
        return (
            tracemalloc.ArenaUse(0, 0, 0, 0, 0, 0, [], []),
            tracemalloc.BaseFilter(True), tracemalloc.DisplayGarbage(),
            tracemalloc.DisplayTop(1), tracemalloc.DomainFilter(True, 1),
            tracemalloc.Filter(True, 'a'), tracemalloc.Frame(FRAMES[0]),
            tracemalloc.Holder('a', 'b'),
            tracemalloc.RootPath('a', 1, 0, 1, []),
            tracemalloc.Why((0, 0, 0, 0, 0, 0, 0, [], [])),
            tracemalloc.ResidentMemory([], 0),
            tracemalloc.ResidentRow('code', 'a', '', 1, 1),
            tracemalloc.Snapshot((), 1),
            tracemalloc.Snapshot((), 1).call_tree(),
            tracemalloc.Statistic(None, 1, 1),
            tracemalloc.StatisticDiff(None, 1, 1, 1, 1),
            tracemalloc.TakeSnapshot(), tracemalloc.Task(print),
            tracemalloc.UnseenAllocator('a', 'b', None),
            tracemalloc.Trace((0, 1, FRAMES, 1)),
            tracemalloc.Traceback(FRAMES), tracemalloc.measure(),
            tracemalloctext.DisplayTop(), tracemalloctext.DisplayTopTask(),
            tracemalloctext.GroupedStats(None, {}, 'line'),
            tracemalloctext.StatsDiff([], None, None),
            tracemalloctext.Metric('a', 1, 'int'),
            tracemalloctext.TakeSnapshotTask())


@dataclasses.dataclass
class Description:
    """A name of a directive, what it is said to be, and where."""
    place: str
    module: str
    outer: str | None           # the class around it
    kind: str
    name: str
    signature: str | None

    @property
    def owner(self):
        """What holds the name: the module or a class."""
        module = importlib.import_module(self.module)
        return getattr(module, self.outer) if self.outer else module


def descriptions(path):
    """Yield the Description of each name of a page."""
    module = outer = None
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        if match := MODULE.match(line):
            module = match[1]
        if not (match := DIRECTIVE.match(line)):
            continue
        indent, opening, kind, name, signature = match.groups()
        if not indent:
            outer = name
        place = f'{path.name}:{number}'
        around = outer if indent else None
        yield Description(place, module, around, kind, name, signature)
        # Further names stand under the first one.
        for following in lines[number:]:
            more = FOLLOWING.match(following)
            if not more or len(more[1]) != len(indent) + len(opening):
                break
            yield Description(place, module, around, kind, *more.groups()[1:])


def attributes_of(thing):
    """Public attributes of an object, but for those of any sequence."""
    inherited = {name for base in type(thing).__mro__[1:]
                 if base.__module__ in ('builtins', 'collections.abc')
                 for name in vars(base)}
    return {name for name in dir(thing)
            if name[0] != '_' and name not in inherited}


def real_names():
    """Yield (owner, name): what programs can use."""
    for module in tracemalloc, tracemalloctext:
        for name in getattr(module, '__all__', vars(module)):
            if name[0] != '_' and not inspect.ismodule(getattr(module, name)):
                yield module, name
    for thing in objects():
        for name in attributes_of(thing):
            yield type(thing), name


def check_description(described):
    """Return what is wrong with a Description, or None."""
    owner, name = described.owner, described.name
    try:
        value = inspect.getattr_static(owner, name)
    except AttributeError:
        things = [thing for thing in objects() if type(thing) is owner]
        if described.kind == 'attribute' and things and hasattr(*things, name):
            return None
        return 'is not there'
    if not isinstance(value, KINDS[described.kind]):
        return f'is no {described.kind}'
    if described.signature is None:
        return ('has no signature' if described.kind in
                ('function', 'method', 'staticmethod', 'classmethod')
                else None)
    scope = {}
    exec(f'def described{described.signature}: pass', scope)
    expected = inspect.signature(scope['described'])
    real = inspect.signature(getattr(owner, name))
    if described.kind == 'method':
        real = real.replace(
            parameters=list(real.parameters.values())[1:])
    return None if real == expected else f'is {name}{real}'


def complaints_about(folder):
    """What the pages there have wrong, and what they leave out."""
    found, known = [], set()
    for path in sorted(folder.glob('*.rst')):
        for described in descriptions(path):
            try:
                problem = check_description(described)
            except AttributeError as exc:           # no such class
                problem = str(exc)
            if problem:
                found.append(f'{described.place}: {described.outer or ""}.'
                             f'{described.name} {problem}')
                continue
            owner, name = described.owner, described.name
            known.add((owner, name))
            value = getattr(owner, name, None)
            if described.outer is None:
                known.add(value)
            if described.kind == 'class' and described.signature:
                known.update((value, parameter) for parameter
                             in inspect.signature(value).parameters)
    for owner, name in real_names():
        # A function may be in both modules, a method in a base class.
        same = [getattr(owner, name)] if inspect.ismodule(owner) else [
            (base, name) for base in owner.__mro__]
        if not known.intersection(same):
            found.append(f'{owner.__name__}.{name} is not described')
    return found


# What is changed on a page, and the complaint.
MISTAKES = {
    ('tracemalloc.rst', '.. function:: stop()', 'With :func:`!stop`'):
        'tracemalloc.stop is not described',
    ('tracemalloc.rst', '.. attribute:: total_nframe', '*total_nframe*:'):
        'Traceback.total_nframe is not described',
    ('tracemalloc.rst', '   .. method:: call_tree()', ''):
        'Snapshot.call_tree is not described',
    ('tracemalloc.rst', 'lineno=None, all_frames=False', 'lineno=None'):
        'Filter.all_frames is not described',
    ('tracemalloc.rst', 'take_snapshot(traces=True,', 'take_snapshot('):
        'is take_snapshot(traces=True,',
    ('tracemalloc.rst', 'max_occupancy=0.1', 'max_occupancy=0.2'):
        'is pinned_arenas(max_occupancy=0.1)',
    ('tracemalloc.rst', 'start(nframe=1, /, ', 'start(nframe=1, '):
        'is start(nframe=1, /, ',
    ('tracemalloc.rst', 'is_tracing()', 'tracing()'): 'tracing is not there',
    ('tracemalloc.rst', '.. class:: Trace\n', '.. class:: Traces\n'):
        "no attribute 'Traces'",
    ('tracemalloc.rst', '.. function:: reset_peak()',
     '.. function:: reset_peak'): 'has no signature',
    ('tracemalloctext.rst', '.. classmethod:: create', '.. method:: create'):
        'create is no method',
    ('tracemalloctext.rst', 'get_delay()', 'get_delays()'):
        'get_delays is not there',
}


@unittest.skipUnless(LIBRARY.is_dir(), 'needs the repository')
class NamesTests(unittest.TestCase):

    def test_the_reference_is_complete_and_right(self):
        self.assertEqual(complaints_about(LIBRARY), [])

    def test_all_classes_are_looked_at(self):
        classes = {getattr(owner, name) for owner, name in real_names()
                   if inspect.isclass(getattr(owner, name, None))}
        self.assertGreater(len(classes), 20)
        self.assertEqual(classes, {*map(type, objects())})

    def test_mistakes_are_noticed(self):
        for (page, old, new), complaint in MISTAKES.items():
            with (self.subTest(page=page, old=old, new=new),
                  tempfile.TemporaryDirectory() as folder):
                copy = shutil.copytree(LIBRARY, pathlib.Path(folder, 'copy'))
                text = (copy / page).read_text(encoding='utf-8')
                self.assertIn(old, text)
                (copy / page).write_text(text.replace(old, new, 1),
                                         encoding='utf-8')
                self.assertIn(complaint, '\n'.join(complaints_about(copy)))


if __name__ == '__main__':
    unittest.main()
