"""Snapshot files: the native format, and pickles that other versions read.

The native format is written and read in C, see "Format of snapshot files" in
the documentation.  The snapshot's own attributes go into it as JSON.
"""

from datetime import datetime
import io
import json
import os
import pickle
import stat

from _tracemalloc_snapshot import _from_lines, _read_pickle, _read_traces
from tracemalloc import resident, unseen, views
from tracemalloc.history import unpack as unpack_history
from tracemalloc.printable import printable
from tracemalloc.whole_file import create, is_special, open_special

MAGIC = b'\x89TRM'


class _NoMemo:
    """In place of a dictionary, whose setdefault() ignores MemoryError."""

    @staticmethod
    def setdefault(key, default):
        return key


def _parse_object(start, strict, scan_once, hook, pairs_hook, memo):
    return json.decoder.JSONObject(start, strict, scan_once, hook, pairs_hook,
                                   _NoMemo)


def _parse_float(text):
    try:
        return float(text)
    except ValueError:
        # It is a number, but CPython without the GIL had no memory for it.
        raise MemoryError from None


# The scanner in C may crash when there is no memory.
_decoder = json.JSONDecoder(parse_float=_parse_float)
_decoder.parse_object = _parse_object
_decoder.scan_once = json.scanner.py_make_scanner(_decoder)

_CONSTANTS = {'None': 'null', 'True': 'true', 'False': 'false',
              'nan': 'NaN', 'inf': 'Infinity', '-inf': '-Infinity'}

_MOST_PEAKS = 4

# Attributes of a snapshot that have a place of their own in the file.
_OWN = ('traces', 'traceback_limit', 'timestamp', 'pid', 'metadata',
        'traced_memory', 'freelists', 'program', '_growth', '_peaks',
        '_history', '_rss')


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
    try:
        if is_special(filename):
            with io.FileIO(open_special(filename), 'w') as file:
                _write_on(file, write, arguments)
            return
        with create(filename) as number:
            write(io.FileIO(number, 'r+', closefd=False), *arguments)
    except OSError as error:
        if error.errno is None:
            raise
        # Not the name of the temporary file: the caller does not know it.
        raise OSError(error.errno, error.strerror, filename) from None


def _write_native(file, snapshot, text):
    snapshot.traces._traces._write(file.fileno(), text, snapshot._history)


def _write_pickle(file, snapshot):
    _write_all(file, pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL))


def _write_on(file, write, arguments):
    """Append to what is there: the writer of the native format seeks."""
    with io.FileIO(os.memfd_create('snapshot'), 'r+') as whole:
        write(whole, *arguments)
        whole.seek(0)
        while data := whole.read(1 << 20):
            _write_all(file, data)


def _write_all(file, data):
    left = memoryview(data)
    while left:
        left = left[file.write(left):]


def _encode(value):
    """The value as JSON.

    json.dumps() makes functions and calls an encoder in C.  Both may crash
    when there is no memory, which is when a snapshot is wanted most.
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
        'program': snapshot.program,
        'growth': snapshot.growth,
        'peaks': snapshot._peaks,
        'rss': snapshot._rss,
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


def load(filename, kind):
    """Load a *kind*, Snapshot, from a file; ValueError if it is damaged."""
    with io.FileIO(filename) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            raise ValueError("%s: not a snapshot file: a device"
                             % os.fsdecode(filename))
        image = file.read()
        written = os.fstat(file.fileno()).st_mtime
    try:
        if image.startswith(MAGIC):
            return _load_native(image, kind)
        snapshot = _load_pickle(image, kind)
        if snapshot.timestamp is None:
            snapshot.timestamp = datetime.fromtimestamp(written)
        return snapshot
    except ValueError as error:
        # The text of the error may hold a name from the file.
        raise ValueError("%s: %s" % (os.fsdecode(filename),
                                     printable(str(error)))) from None


def _typed(values, name, *types):
    value = values[name]
    if not isinstance(value, types) or isinstance(value, bool):
        raise TypeError("%s is of type %s" % (name, type(value).__name__))
    return value


def _count(value):
    if type(value) is not int:
        raise TypeError("integer expected, not %s" % type(value).__name__)
    if not 0 <= value < 2 ** 64:
        raise ValueError("integer out of range")
    return value


def _pair(value):
    first, second = value
    return _count(first), _count(second)


def _make_snapshot(kind, traces, values, attributes):
    """*values*: of the attributes in _OWN; *attributes*: all others."""
    snapshot = kind(traces, _count(values['traceback_limit']))
    snapshot.timestamp = _typed(values, 'timestamp', datetime, type(None))
    pid = values['pid']
    snapshot.pid = None if pid is None else _count(pid)
    snapshot.metadata = _typed(values, 'metadata', dict)
    snapshot.traced_memory = _pair(values['traced_memory'])
    snapshot.freelists = {
        name: _pair(value)
        for name, value in _typed(values, 'freelists', dict).items()}
    # Files did not always have it.
    snapshot.program = views.check_process(values.get('program'))
    for name in attributes:
        if name in _OWN or hasattr(kind, name):
            raise ValueError("attribute %r cannot be set" % name)
    vars(snapshot).update(attributes)
    return snapshot


# --- Native

def _check_peaks(peaks):
    if len(peaks) > _MOST_PEAKS:
        raise ValueError("more than %s peaks" % _MOST_PEAKS)
    return [(_check_time(timestamp), _count(size))
            for timestamp, size in peaks]


def _check_time(timestamp):
    if type(timestamp) is not float:
        raise TypeError("time is of type %s" % type(timestamp).__name__)
    datetime.fromtimestamp(timestamp)
    return timestamp


def _load_native(image, kind):
    traces, text, history = _read_traces(image)
    try:
        values = _decoder.decode(text)
        timestamp = _typed(values, 'timestamp', str, type(None))
        values['timestamp'] = timestamp and datetime.fromisoformat(timestamp)
        snapshot = _make_snapshot(kind, traces, values,
                                  _typed(values, 'attributes', dict))
        snapshot._growth = values.get('growth')
        # Files did not always have them.
        snapshot._peaks = _check_peaks(values.get('peaks', []))
        snapshot._history = history
        snapshot._rss = resident.check(values.get('rss'))
        return snapshot
    except (ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise ValueError("damaged metadata at offset 32: %s: %s"
                         % (type(error).__name__, error)) from None


# --- Pickles

class _Stored:
    """An instance in a pickle: its attributes."""

    state = None


class _StoredSnapshot(_Stored):
    pass


class _StoredTraces(_Stored):
    pass


def _load_pickle(image, kind):
    try:
        data = _read_pickle(image, (_StoredSnapshot, _StoredTraces, datetime))
        if isinstance(data, _StoredSnapshot):
            return _from_stock(data.state, kind)
        if isinstance(data, dict) and 'format_version' in data:
            return _from_091(data, kind)
    except ValueError as error:
        problem = str(error)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        problem = "%s: %s" % (type(error).__name__, error)
    else:
        raise ValueError("not a snapshot file: the pickle holds another "
                         "object")
    raise ValueError("not a snapshot file, or a damaged one: %s" % problem)


def _from_stock(state, kind):
    # What the standard library's has not.
    values = {'timestamp': None, 'pid': None, 'metadata': {},
              'traced_memory': (0, 0), 'freelists': {}}
    traces = _typed(state, 'traces', _StoredTraces).state['_traces']
    values |= {name: state[name] for name in _OWN if name in state}
    attributes = {name: value for name, value in state.items()
                  if name not in _OWN}
    return _make_snapshot(kind, traces, values, attributes)


def _from_091(data, kind):
    """The statistics {filename: {lineno or None: (size, count)}} become call
    sites without traces."""
    lines = []
    for filename, stats in data['stats'].items():
        for lineno, (size, count) in stats.items():
            lines.append((filename, lineno or 0, size, count))
    snapshot = kind(_from_lines(lines), 1)
    pid = data.get('pid')
    snapshot.pid = None if pid is None else _count(pid)
    timestamp = data.get('timestamp')
    if isinstance(timestamp, str):
        timestamp = datetime.fromisoformat(timestamp)
    snapshot.timestamp = timestamp if isinstance(timestamp, datetime) else None
    for name in ('process_memory', 'user_data'):
        if data.get(name) is not None:
            snapshot.metadata[name] = data[name]
    return snapshot
