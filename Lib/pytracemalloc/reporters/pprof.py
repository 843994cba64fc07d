"""pprof's gzipped protocol buffer, with Go's four values of a heap profile.

Only what the format needs of the wire encoding is here: varints, and strings
and messages with their length.  Field numbers are those of profile.proto.
"""

import contextlib
import hashlib
import zlib

from pytracemalloc.reporters import Reporter
from tracemalloc.places import name_parts

SAMPLE_TYPES = (('alloc_objects', 'count'), ('alloc_space', 'bytes'),
                ('inuse_objects', 'count'), ('inuse_space', 'bytes'))
COLUMNS = ('total_count', 'total_size', 'count', 'size')
_MASK = (1 << 64) - 1


class PprofReporter(Reporter):
    suffix = '.pb.gz'
    beside = True
    binary = True

    def write(self, subject, file):
        default = ('alloc_space' if subject.measure.name == 'total'
                   else 'inuse_space')
        # pprof's tools can hide frames themselves.
        tree = (subject.tree() if subject.view.get('my_code')
                else subject.unfolded_tree())
        file.write(encode(tree, default,
                          time=subject.new.timestamp,
                          track=subject.track))


def encode(tree, default='inuse_space', time=None, seconds=0,
           subtract=False, track=iter):
    """Return the bytes of a profile.

    A difference has the old snapshot as samples with negative values and
    the label pprof::base, as `pprof -diff_base` makes them; with *subtract*,
    one sample a node that has new minus old.  track(list) yields the
    items of a list and shows how far it is.
    """
    profile = _Profile()
    for name, unit in SAMPLE_TYPES:
        profile.message(1, _value_type(profile, name, unit))
    new = [tree.values[column] for column in COLUMNS]
    old = tree.old and [tree.old[column] for column in COLUMNS]
    if subtract:
        for column, base in zip(new, old):
            column[:] = map(int.__sub__, column, base)
    labels = [(profile.label('thread', thread) if thread else b'')
              + (profile.label('task', task) if task else b'')
              for thread, task in zip(tree.threads(), tree.tasks())]
    locations = list(map(_varint, range(1, len(tree.frame_table) + 1)))
    _add_samples(profile, tree, track(list(zip(*new))), locations,
                 None if subtract else tree.types, labels)
    if old and not subtract:
        base = profile.label('pprof::base', 'true')
        _add_samples(profile, tree, track(list(zip(*old))), locations,
                     tree.old_types, [label + base for label in labels], -1)
    for index, frame in enumerate(tree.frame_table):
        if index in tree.native:
            profile.native_location(index + 1, tree.native[index])
        else:
            profile.location(index + 1, *frame)
    if time is not None:
        # The epoch is far from some dates that a file may have.
        with contextlib.suppress(OverflowError, ValueError, OSError):
            profile.number(9, int(time.timestamp() * 1e9))
    if seconds:
        profile.number(10, int(seconds * 1e9))
    profile.message(11, _value_type(profile, 'space', 'bytes'))
    profile.number(12, 1)
    profile.number(14, profile.string(default))
    return profile.finish()


def _add_samples(profile, tree, rows, locations, types, labels, sign=1):
    """Add the samples of a tree.

    rows, labels: the values of each node, its encoded labels; locations: the
    encoded number of each frame.
    """
    last = None
    for node, kind, values in samples(rows, types):
        if node != last:
            stack = _bytes(1, b''.join(map(locations.__getitem__,
                                           tree.path(node))))
            last = node
        label = labels[node]
        if kind is not None:
            label += profile.label('type', kind)
        profile.sample(stack, [sign * value for value in values], label)


def samples(rows, types):
    """Yield (node, type name, values), one for each type of a node, and one for
    the rest of it, whose type is None.

    rows: the values of each node, in the order of COLUMNS.  The types of freed
    blocks are unknown, and total values must not shrink from one profile to
    the next, as collectors subtract them: types have live values alone.
    """
    by_node = {}
    for node, kind, size, count in types or ():
        by_node.setdefault(node, []).append((kind, (0, 0, count, size)))
    for node, values in enumerate(rows):
        if not any(values):
            continue
        for kind, live in by_node.get(node, ()):
            yield node, kind, live
            values = list(map(int.__sub__, values, live))
        if any(values):
            yield node, None, values


def _value_type(profile, name, unit):
    return (_number(1, profile.string(name))
            + _number(2, profile.string(unit)))


class _Profile:
    """The message Profile; its methods append one field to it."""

    def __init__(self):
        self.parts = []
        self.strings = {'': 0}
        self.functions = {}
        self.labels = {}
        self.mappings = {}
        # Python code has names and lines, or pprof looks for a binary.
        self.message(3, _number(1, 1) + _number(7, 1) + _number(8, 1)
                     + _number(9, 1))

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings))

    def number(self, field, value):
        self.parts.append(_number(field, value))

    def message(self, field, content):
        self.parts.append(_bytes(field, content))

    def label(self, key, text):
        """Return a sample's field."""
        content = self.labels.get((key, text))
        if content is None:
            content = self.labels[key, text] = _bytes(
                3, _number(1, self.string(key))
                + _number(2, self.string(text)))
        return content

    def sample(self, stack, values, labels):
        """Add a sample of encoded fields and values, unless they are 0."""
        if any(values):
            self.message(2, stack + _bytes(2, b''.join(map(_varint, values)))
                         + labels)

    def function(self, name, filename, first_lineno):
        """Return the number of a function."""
        key = name, filename, first_lineno
        function_id = self.functions.get(key)
        if function_id is None:
            function_id = self.functions[key] = len(self.functions) + 1
            # No system name: pprof would demangle it, <module> for one.
            self.message(5, _number(1, function_id)
                         + _number(2, self.string(name))
                         + _number(4, self.string(filename))
                         + _number(5, first_lineno or 0))
        return function_id

    def location(self, index, filename, lineno, function, first_lineno):
        filename, function = name_parts(filename, lineno, function)
        place = function or filename, filename, first_lineno
        line = _number(1, self.function(*place)) + _number(2, lineno)
        self.message(4, _number(1, index) + _number(2, 1)
                     + _number(3, _address(*place, lineno)) + _bytes(4, line))

    def native_location(self, index, frame):
        """Add C code, at the call; tools find its name if it is not known
        here."""
        found = frame.function is not None
        line = b''
        if found:
            line = _bytes(4, _number(1, self.function(
                frame.function, frame.filename or frame.module, 0))
                + _number(2, frame.lineno))
        self.message(4, _number(1, index)
                     + _number(2, self.mapping(frame, found))
                     + _number(3, max(0, frame.offset - 1)) + line)

    def mapping(self, frame, found):
        """Return the number of a mapping that spans all addresses: those of C
        code are of the file."""
        key = frame.module, frame.build_id, found
        number = self.mappings.get(key)
        if number is None:
            number = self.mappings[key] = len(self.mappings) + 2
            flags = b''.join(_number(flag, 1) for flag in (7, 8, 9))
            self.message(3, _number(1, number) + _number(3, _MASK)
                         + _number(5, self.string(frame.module))
                         + _number(6, self.string(frame.build_id))
                         + (flags if found else b''))
        return number

    def finish(self):
        for text in self.strings:
            self.message(6, text.encode(errors='backslashreplace'))
        # Not gzip.compress(): what it says of the system differs between
        # releases of Python.
        return zlib.compress(b''.join(self.parts), 6, wbits=31)


def _address(*place):
    """Return a number that identifies a place in all profiles.

    It is not the address of any machine code, but collectors use addresses to
    recognise the stacks of one profile in the next.
    """
    text = repr(place).encode(errors='backslashreplace')
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()) + 1


def _varint(value):
    if 0 <= value < 128:
        return _SMALL[value]
    value &= _MASK                # negative: two's complement of 64 bits
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_SMALL = [bytes([value]) for value in range(128)]


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, content):
    return _varint(field << 3 | 2) + _varint(len(content)) + content
