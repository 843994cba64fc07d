"""Snapshot files: the native format, and pickles that other versions read.

The native format is written and read in C, see "Format of snapshot files" in
the documentation.  The snapshot's own attributes go into it as JSON.
"""

from contextlib import suppress
from datetime import datetime
import io
import json
import os
import pickle
import stat

from _tracemalloc_snapshot import _check_pickle, _from_lines, _read_traces

MAGIC = b'\x89TRM'

# The scanner in C may crash when there is no memory.
_decoder = json.JSONDecoder()
_decoder.scan_once = json.scanner.py_make_scanner(_decoder)

_CONSTANTS = {'None': 'null', 'True': 'true', 'False': 'false',
              'nan': 'NaN', 'inf': 'Infinity', '-inf': '-Infinity'}

# Attributes of a snapshot that have a place of their own in the file.
_OWN = ('traces', 'traceback_limit', 'timestamp', 'pid', 'metadata',
        'traced_memory', 'freelists')


def dump(snapshot, filename, format='native'):
    """Write a snapshot into a file, whole or not at all."""
    if format == 'native':
        write, arguments = _write_native, (snapshot, _describe(snapshot))
    elif format == 'pickle':
        if not snapshot.traces._traces._has_blocks:
            raise ValueError("the snapshot has no traces, and a pickle holds "
                             "nothing else: use dump(filename)")
        write, arguments = _write_pickle, (snapshot,)
    else:
        raise ValueError("unknown format %r: use 'native' or 'pickle'"
                         % (format,))
    # What is no file (/dev/stdout) is not replaced; a link stays a link.
    if os.path.exists(filename) and not os.path.isfile(filename):
        with io.FileIO(filename, 'w') as file:
            if file.seekable():
                write(file, *arguments)
            else:
                _write_to_pipe(file, write, arguments)
        return
    path = os.path.realpath(os.fsdecode(filename))
    try:
        _write_whole(path, write, arguments)
    except OSError as error:
        if error.errno is None:
            raise
        # Not the name of the temporary file, which nobody knows.
        raise OSError(error.errno, error.strerror, filename) from None


def _write_native(file, snapshot, text):
    snapshot.traces._traces._write(file.fileno(), text)


def _write_pickle(file, snapshot):
    _write_all(file, pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL))


def _write_to_pipe(file, write, arguments):
    """The native format is not written from its beginning to its end."""
    with io.FileIO(os.memfd_create('snapshot'), 'r+') as whole:
        write(whole, *arguments)
        whole.seek(0)
        while data := whole.read(1 << 20):
            _write_all(file, data)


def _write_all(file, data):
    left = memoryview(data)
    while left:
        left = left[file.write(left):]


def _write_whole(filename, write, arguments):
    """Replace a file by a new one that is complete and on disk."""
    temporary = "%s.%s.tmp" % (filename, os.urandom(4).hex())
    try:
        with io.FileIO(temporary, 'x') as file:
            write(file, *arguments)
            with suppress(OSError):
                mode = stat.S_IMODE(os.stat(filename).st_mode)
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, filename)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _encode(value):
    """The value as JSON.

    json.dumps() makes functions and calls an encoder in C; both may crash
    when there is no memory, and then a snapshot is most wanted.
    """
    if isinstance(value, str):
        return json.encoder.encode_basestring_ascii(value)
    if value is None or isinstance(value, (bool, float)):
        return _CONSTANTS.get(repr(value)) or float.__repr__(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join([_encode(item) for item in value])
    if not isinstance(value, dict):
        raise TypeError("%s is not plain data" % type(value).__name__)
    items = []
    for key, item in value.items():
        if not isinstance(key, str):
            if isinstance(key, (list, tuple, dict)):
                raise TypeError("key of type %s" % type(key).__name__)
            key = _encode(key)
        items.append("%s: %s" % (_encode(key), _encode(item)))
    return "{%s}" % ", ".join(items)


def _describe(snapshot):
    attributes = {name: value for name, value in vars(snapshot).items()
                  if name not in _OWN}
    for name, value in attributes.items():
        if _as_json("attribute", name, value) != value:
            raise _not_plain("attribute", name)
    for name, value in snapshot.metadata.items():
        _as_json("metadata", name, value)
    timestamp = snapshot.timestamp
    return _encode({
        'traceback_limit': snapshot.traceback_limit,
        'timestamp': None if timestamp is None else timestamp.isoformat(),
        'pid': snapshot.pid,
        'metadata': snapshot.metadata,
        'traced_memory': snapshot.traced_memory,
        'freelists': snapshot.freelists,
        'attributes': attributes,
    })


def _not_plain(kind, name):
    return TypeError("%s %r of the snapshot is not plain data (numbers, "
                     "strings, lists, dictionaries): use "
                     "dump(filename, format='pickle')" % (kind, name))


def _as_json(kind, name, value):
    """The value as it will be read."""
    try:
        return _decoder.decode(_encode(value))
    except (TypeError, ValueError, RecursionError):
        raise _not_plain(kind, name) from None


def load(filename):
    """Load a snapshot from a file; ValueError if it is damaged."""
    with io.FileIO(filename) as file:
        image = file.read()
        written = os.fstat(file.fileno()).st_mtime
    try:
        if image.startswith(MAGIC):
            return _load_native(image)
        snapshot = _load_pickle(image)
        if snapshot.timestamp is None:
            snapshot.timestamp = datetime.fromtimestamp(written)
        return snapshot
    except ValueError as error:
        raise ValueError("%s: %s" % (os.fsdecode(filename), error)) from None


# --- Native

def _load_native(image):
    traces, text = _read_traces(image)
    try:
        values = _decoder.decode(text)
        return _restore(traces, values)
    except (ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise ValueError("damaged metadata at offset 32: %s: %s"
                         % (type(error).__name__, error)) from None


def _typed(values, name, *types):
    value = values[name]
    if not isinstance(value, types) or isinstance(value, bool):
        raise TypeError("%s is of type %s" % (name, type(value).__name__))
    return value


def _pair(value):
    first, second = value
    if not isinstance(first, int) or not isinstance(second, int):
        raise TypeError("two integers expected")
    return first, second


def _restore(traces, values):
    from tracemalloc.snapshot import Snapshot
    nothing = type(None)
    timestamp = _typed(values, 'timestamp', str, nothing)
    attributes = _typed(values, 'attributes', dict)
    snapshot = Snapshot(traces, _typed(values, 'traceback_limit', int))
    snapshot.timestamp = timestamp and datetime.fromisoformat(timestamp)
    snapshot.pid = _typed(values, 'pid', int, nothing)
    snapshot.metadata = _typed(values, 'metadata', dict)
    snapshot.traced_memory = _pair(values['traced_memory'])
    snapshot.freelists = {
        name: _pair(value)
        for name, value in _typed(values, 'freelists', dict).items()}
    for name in attributes:
        if name in _OWN or hasattr(Snapshot, name):
            raise ValueError("attribute %r cannot be set" % name)
    vars(snapshot).update(attributes)
    return snapshot


# --- Pickles

class _SafeUnpickler(pickle.Unpickler):
    """Knows the two classes of a stock snapshot and datetime alone."""

    def __init__(self, file):
        # Names in pickles of Python 2 are bytes.
        super().__init__(file, encoding='utf-8', errors='surrogateescape')
        # New ones for each file: a pickle may change its classes.
        self.snapshot_type = type('Snapshot', (), {})
        self.traces_type = type('_Traces', (), {})

    def find_class(self, module, name):
        if (module, name) == ('tracemalloc', 'Snapshot'):
            return self.snapshot_type
        if (module, name) == ('tracemalloc', '_Traces'):
            return self.traces_type
        if (module, name) == ('datetime', 'datetime'):
            return datetime
        raise pickle.UnpicklingError(
            "it asks for %s.%s, which no snapshot needs" % (module, name))

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside")


def _load_pickle(image):
    try:
        _check_pickle(image)
    except ValueError as error:
        raise ValueError("not a snapshot file, or a damaged one: %s"
                         % error) from None
    file = io.BytesIO(image)
    try:
        unpickler = _SafeUnpickler(file)
        data = unpickler.load()
        if isinstance(data, unpickler.snapshot_type):
            return _from_stock(vars(data), unpickler.traces_type)
        if isinstance(data, dict) and 'format_version' in data:
            return _from_091(data)
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError,
            IndexError, AttributeError, ImportError, OverflowError,
            RecursionError) as error:
        raise ValueError("not a snapshot file, or a damaged one, at offset "
                         "%d: %s: %s" % (file.tell(), type(error).__name__,
                                         error)) from None
    raise ValueError("not a snapshot file: the pickle holds another object")


def _from_stock(state, traces_type):
    from tracemalloc.snapshot import Snapshot
    traces = state.pop('traces')
    if type(traces) is not traces_type:
        raise TypeError("traces are of type %s" % type(traces).__name__)
    for name in state:
        if name not in _OWN and hasattr(Snapshot, name):
            raise ValueError("attribute %r cannot be set" % name)
    limit = _typed(state, 'traceback_limit', int)
    snapshot = Snapshot(vars(traces)['_traces'], limit)
    snapshot.__setstate__(state)
    return snapshot


def _from_091(data):
    """The statistics {filename: {lineno or None: (size, count)}} become call
    sites without traces."""
    from tracemalloc.snapshot import Snapshot
    lines = []
    for filename, stats in data['stats'].items():
        for lineno, (size, count) in stats.items():
            lines.append((filename, lineno or 0, size, count))
    snapshot = Snapshot(_from_lines(lines), 1)
    snapshot.pid = data.get('pid')
    timestamp = data.get('timestamp')
    if isinstance(timestamp, str):
        timestamp = datetime.fromisoformat(timestamp)
    snapshot.timestamp = timestamp if isinstance(timestamp, datetime) else None
    for name in ('process_memory', 'user_data'):
        if data.get(name) is not None:
            snapshot.metadata[name] = data[name]
    return snapshot
