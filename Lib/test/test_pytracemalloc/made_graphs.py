"""Snapshots with a graph that is made by hand."""
import struct
from array import array

import _testtracer
from _tracemalloc_snapshot import _adopt
from tracemalloc.snapshot import Snapshot

PLAIN, DICT, NAMESPACE, SEQUENCE, SET = range(5)
CELL, MODULE, TYPE, FUNCTION, METHOD, CODE, FRAME, THREAD, STATE = range(5, 14)
ROOT, INTERPRETER, STATIC_TYPES, THREADS = range(4)
IMMORTAL = 2 ** 32 - 1
UNCOUNTED = 2 ** 32 - 2
NONE = 2 ** 32 - 1


class Object:
    def __init__(self, number, address, shape):
        self.number = number
        self.address = address
        self.shape = shape
        self.type = 0
        self.surplus = 0
        self.text = NONE
        self.references = []


class Graph:
    """Objects are made one by one; each has a block, unless it has no size.

    An object's references are numbers, or objects; None is a NULL.
    """

    def __init__(self):
        self.strings = {'': 0}
        self.shapes = {(kind, ()): kind for kind in range(SET + 1)}
        self.classes = {}
        self.lines = {}
        self.blocks = []
        self.buffers = []
        self.objects = []
        self.has_keys = False
        self._address = 0x7f0000000000
        self._texts = {}
        for kind in STATE, STATE, STATE, STATE:
            self.objects.append(Object(len(self.objects), 0,
                                       self.shape(kind)))

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings))

    def shape(self, kind, *names):
        return self.shapes.setdefault((kind, names), len(self.shapes))

    def block(self, size, place=('app.py', 1), name='<memory>'):
        """Add a live block, return its address."""
        address = self._address
        self._address += (size + 15) // 16 * 16
        self.blocks.append((address, size, self.lines.setdefault(
            place, len(self.lines)), self.classes.setdefault(
                name, len(self.classes))))
        return address

    def add(self, kind=PLAIN, *references, type=None, size=0, place=None,
            surplus=0, text=None, buffers=(), **named):
        """Add an object; *named* references come first."""
        return self.add_named(kind, named, *references, type=type, size=size,
                              place=place, surplus=surplus, text=text,
                              buffers=buffers)

    def add_named(self, kind, named, *references, type=None, size=0,
                  place=None, surplus=0, text=None, buffers=()):
        if size:
            # Behind what the collector keeps before it.
            address = self.block(size, place or ('app.py', 1)) + min(
                16, size - 1)
        else:
            address = self._address = self._address + 16
            self._address += 16
        made = Object(len(self.objects), address, self.shape(kind, *named))
        made.type = type.number if type else 0
        made.surplus = surplus
        made.text = NONE if text is None else self.string(text)
        made.references = [*named.values(), *references]
        for buffer_size, buffer_place in buffers:
            self.buffers.append((self.block(buffer_size, buffer_place),
                                 made.number))
        self.objects.append(made)
        return made

    def name(self, text):
        """A str that is a name."""
        if text not in self._texts:
            self._texts[text] = self.add(PLAIN, text=text)
        return self._texts[text]

    # What CPython has.

    def module(self, name, **values):
        """Add a module that sys.modules has; return its dictionary."""
        namespace = self.namespace(**values)
        module = self.add(MODULE, __dict__=namespace,
                          __name__=self.name(name))
        modules = self.modules()
        modules.references += self.name(name), module
        return namespace

    def modules(self):
        interpreter = self.objects[INTERPRETER]
        if not interpreter.references:
            interpreter.shape = self.shape(STATE, 'sys.modules')
            interpreter.references = [self.add(DICT)]
        return interpreter.references[0]

    def namespace(self, **values):
        return self.add(NAMESPACE, *(
            item for name, value in values.items()
            for item in (self.name(name), value)))

    def cls(self, name, module='__main__', **values):
        """Add a class."""
        return self.add(
            TYPE, __dict__=self.namespace(__module__=self.name(module),
                                          **values),
            __name__=self.name(name), __qualname__=self.name(name))

    def function(self, qualname, filename='app.py', module='__main__',
                 closure=None):
        named = {'__code__': self.code(qualname, filename),
                 '__qualname__': self.name(qualname),
                 '__module__': self.name(module)}
        if closure:
            cells = [self.add(CELL, value) for value in closure.values()]
            named['__closure__'] = self.add_named(SEQUENCE, dict(zip(
                [f'closure {name}' for name in closure], cells)))
        return self.add_named(FUNCTION, named)

    def code(self, qualname, filename='app.py'):
        return self.add(CODE, co_qualname=self.name(qualname),
                        co_filename=self.name(filename))

    def method(self, function, owner, size=0, place=None):
        return self.add(METHOD, __func__=function, __self__=owner, size=size,
                        place=place)

    def frame(self, qualname, lineno, **local):
        return self.add_named(
            FRAME, {'code': self.code(qualname)}
            | {f'local {name}': value for name, value in local.items()},
            text=str(lineno))

    def thread(self, *frames, text=None):
        self.objects[THREADS].references.append(
            self.add(THREAD, *frames, text=text))

    # All of it.

    def arrays(self):
        objects, references = [], array('I')
        for made in self.objects:
            objects.append(struct.pack(
                '=QQIIII', made.address, len(references), made.type,
                made.shape, made.surplus, made.text))
            references.extend(
                0 if target is None else getattr(target, 'number', target)
                for target in made.references)
        objects.append(struct.pack('=QQIIII', 0, len(references), 0, 0, 0, 0))
        names, shapes = array('I'), []
        for kind, texts in self.shapes:
            shapes.append(struct.pack('=III', kind, len(names), len(texts)))
            names.extend(map(self.string, texts))
        classes = [struct.pack('=4I', self.string(name), 0, 0, 0)
                   for name in self.classes]
        locations = [struct.pack('=IIiiiii', self.string(filename), 0, line,
                                 -1, -1, -1, -1)
                     for filename, line in self.lines]
        nodes = [struct.pack('=IIII', NONE, line, 1, line + 1)
                 for line in range(len(self.lines))]
        measures = [[0] * 8 for _ in range(len(self.lines) + 1)]
        for _, size, line, _ in self.blocks:
            for i in range(0, 6, 2):
                measures[line + 1][i] += size
                measures[line + 1][i + 1] += 1
        text, strings = b'', []
        for string in self.strings:
            encoded = string.encode('utf-8', 'surrogatepass')
            strings.append(struct.pack('=QI4x', len(text), len(encoded)))
            text += encoded
        return {
            'objects': b''.join(objects), 'references': references.tobytes(),
            'shapes': b''.join(shapes), 'names': names.tobytes(),
            'buffers': b''.join(struct.pack('=QI4x', *buffer)
                                for buffer in self.buffers),
            'text': text, 'strings': b''.join(strings),
            'locations': b''.join(locations), 'nodes': b''.join(nodes),
            'measures': b''.join(struct.pack('=8Q', *row)
                                 for row in measures),
            'classes': b''.join(classes),
            'blocks': b''.join(struct.pack('=QQII', *block)
                               for block in self.blocks),
        } | ({'has_keys': True} if self.has_keys else {})

    def traces(self):
        return adopt(self.arrays())

    def snapshot(self):
        return Snapshot(self.traces(), 1)


def adopt(arrays):
    return _adopt(_testtracer.make_snapshot(arrays), {})
