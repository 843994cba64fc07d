"""OpenTelemetry's profiles signal: the message ProfilesData of OTLP.

One profile for each value of a pprof profile, live bytes first, as tools show
the first one.  All share the tables of stacks, locations, functions and
strings, whose first item is empty, as 0 means "none".  The encoding is that of
the package opentelemetry-proto, which is not part of Python.
"""

import contextlib
import sys

from pytracemalloc.errors import CommandError
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.pprof import COLUMNS, SAMPLE_TYPES, samples
from tracemalloc.places import name_parts

SCOPE = 'pytracemalloc'
_ORDER = 3, 2, 1, 0               # of SAMPLE_TYPES: live before all
_FRAME_TYPE = 'profile.frame.type'
_BUILD_ID = 'process.executable.build_id.gnu'
_MASK = (1 << 64) - 1
_SIGN = 1 << 63


class OtlpReporter(Reporter):
    suffix = '.otlp'
    beside = True
    binary = True

    def check(self):
        messages()

    def write(self, subject, file):
        file.write(encode(subject.tree() if subject.view.get('my_code')
                          else subject.unfolded_tree(),
                          subject.new.timestamp, track=subject.track))


def encode(tree, time=None, resource=(), track=iter):
    """Return the bytes of a message; a difference has new minus old.

    resource: pairs of a name and a text or number that say what it is of.
    """
    new = messages()
    data = new.ProfilesData()
    tables = _Tables(new, data.dictionary)
    of_resource = data.resource_profiles.add()
    for name, value in resource:
        of_resource.resource.attributes.add(
            key=name, value=_value(value))
    scope = of_resource.scope_profiles.add()
    scope.scope.name = SCOPE
    profiles = [None] * len(SAMPLE_TYPES)
    for number in _ORDER:
        profiles[number] = _add_profile(scope, tables, time,
                                        *SAMPLE_TYPES[number])
    _add_samples(profiles, tables, tree, track)
    return data.SerializeToString(deterministic=True)


def messages():
    """Return the module that has the classes of messages."""
    try:
        from opentelemetry.proto.profiles.v1development import profiles_pb2
        profiles_pb2.Stack        # not in versions before 1.40
    except (ImportError, AttributeError):
        raise CommandError(
            'OTLP needs the package opentelemetry-proto, 1.40 or later: '
            f'{sys.executable} -m pip install opentelemetry-proto') from None
    return profiles_pb2


def _value(value):
    """Return what makes a message AnyValue."""
    if isinstance(value, int):
        return {'int_value': value}
    return {'string_value': _encodable(value)}


def _encodable(text):
    """Names of files may have lone surrogates."""
    return text.encode(errors='backslashreplace').decode()


def _add_profile(scope, tables, time, name, unit):
    profile = scope.profiles.add()
    profile.sample_type.type_strindex = tables.string(name)
    profile.sample_type.unit_strindex = tables.string(unit)
    profile.period_type.type_strindex = tables.string('space')
    profile.period_type.unit_strindex = tables.string('bytes')
    profile.period = 1
    if time is not None:
        # The epoch is far from some dates that a file may have.
        with contextlib.suppress(OverflowError, ValueError, OSError):
            profile.time_unix_nano = int(time.timestamp() * 1e9)
    return profile


def _add_samples(profiles, tables, tree, track):
    columns = [tree.values[column] for column in COLUMNS]
    types = tree.types
    if tree.old is not None:
        columns = [map(int.__sub__, column, tree.old[name])
                   for column, name in zip(columns, COLUMNS)]
        types = None
    tables.locations = [tables.location(frame, tree.native.get(index))
                        for index, frame in enumerate(tree.frame_table)]
    names = list(zip(tree.threads(), tree.tasks()))
    for node, kind, values in samples(track(list(zip(*columns))), types):
        stack = tables.stack(tree.path(node))
        thread, task = names[node]
        attributes = [tables.attribute(name, text) for name, text in (
            ('thread.name', thread), ('task', task), ('type', kind)) if text]
        for profile, value in zip(profiles, values):
            if value:
                # Two's complement, as in pprof: a file may have any numbers.
                value = (value + _SIGN & _MASK) - _SIGN
                profile.samples.add(stack_index=stack, values=[value],
                                    attribute_indices=attributes)


class _Tables:
    """The dictionary of a message; its methods return the number of an item,
    which they add once."""

    def __init__(self, new, dictionary):
        self._new = new
        self._dictionary = dictionary
        self._numbers = {'': 0}
        self.locations = []       # number of each frame of the tree
        dictionary.string_table.append('')
        for table in ('mapping', 'location', 'function', 'link', 'attribute',
                      'stack'):
            getattr(dictionary, f'{table}_table').add()

    def _add(self, table, key, **fields):
        number = self._numbers.get((table, key))
        if number is None:
            items = getattr(self._dictionary, f'{table}_table')
            number = self._numbers[table, key] = len(items)
            items.add(**fields)
        return number

    def string(self, text):
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._dictionary.string_table)
            self._dictionary.string_table.append(_encodable(text))
        return number

    def attribute(self, name, text):
        return self._add('attribute', (name, text), value=_value(text),
                         key_strindex=self.string(name))

    def stack(self, path):
        """*path*: the indices of frames, most recent first."""
        numbers = [self.locations[index] for index in path]
        return self._add('stack', tuple(numbers), location_indices=numbers)

    def location(self, frame, native=None):
        if native is not None:
            return self._native_location(native)
        filename, lineno, function, first_lineno = frame
        filename, function = name_parts(filename, lineno, function)
        line = self._new.Line(line=lineno, function_index=self._function(
            function or filename, filename, first_lineno))
        return self._add(
            'location', frame, lines=[line],
            attribute_indices=[self.attribute(_FRAME_TYPE, 'cpython')])

    def _native_location(self, frame):
        """C code, at the call; tools find its name if it is not known here."""
        lines = []
        if frame.function is not None:
            lines = [self._new.Line(
                line=frame.lineno, function_index=self._function(
                    frame.function, frame.filename or frame.module, 0))]
        return self._add(
            'location', (frame.module, frame.build_id, frame.offset),
            mapping_index=self._mapping(frame),
            address=max(0, frame.offset - 1) & _MASK, lines=lines,
            attribute_indices=[self.attribute(_FRAME_TYPE, 'native')])

    def _mapping(self, frame):
        """It spans all addresses: those of C code are of the file."""
        ids = [self.attribute(_BUILD_ID, frame.build_id)] \
            if frame.build_id else []
        return self._add('mapping', (frame.module, frame.build_id),
                         memory_limit=_MASK, attribute_indices=ids,
                         filename_strindex=self.string(frame.module))

    def _function(self, name, filename, first_lineno):
        return self._add('function', (name, filename, first_lineno),
                         name_strindex=self.string(name),
                         filename_strindex=self.string(filename),
                         start_line=first_lineno or 0)
