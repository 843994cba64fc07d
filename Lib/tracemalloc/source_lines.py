"""Lines of source text: the only place that reads them, for all reports.

File names come from a snapshot that somebody else may have written, and the
reader of the snapshot may have access to more files than its writer.  A name
may lead to a secret, to a device or to a pipe on which nobody writes, and
there may be a million names.  So a file is opened only if it is a regular file
whose name, before and after links are followed, is that of Python source.  The
total that is read is limited to what a large program has.

Traceback.format() uses linecache, as in the standard library.  linecache is
given the text that was read here, and opens no file itself.
"""

import io
import linecache
import os
import stat
import sys
import time

SUFFIXES = ('.py', '.pyw')

_MAX_NAME = 4096                  # characters; Linux opens no longer names
_MAX_FILE = 8 << 20               # bytes read of one file
_MAX_TOTAL = 256 << 20            # bytes read for one report
_MAX_SECONDS = 10                 # for one report
_MAX_LINE = 300                   # characters of a line that is shown
_MAX_KEPT = 64 << 20              # bytes of text given to linecache
# Codecs whose time is not proportional to the input.
_SLOW_CODECS = ('idna', 'punycode')
_NO_ENTRY = (0, None, [], '')

_kept = 0


def read_lines(places):
    """Return {(filename, lineno): text} of the places that can be read."""
    import threading
    wanted = {}
    for filename, lineno in places:
        wanted.setdefault(filename, set()).add(lineno)
    found = {}
    # The thread is abandoned if a file system does not answer.
    reader = threading.Thread(target=_read_files, args=(wanted, found),
                              daemon=True)
    reader.start()
    reader.join(_MAX_SECONDS)
    return found.copy()


def _read_files(wanted, found):
    end = time.monotonic() + _MAX_SECONDS
    left = _MAX_TOTAL
    for filename, numbers in wanted.items():
        if left <= 0 or time.monotonic() > end:
            return
        if _is_registered(filename):
            for number in numbers:
                text = linecache.getline(filename, number)
                found[filename, number] = _shown(text[:4 * _MAX_LINE])
            continue
        data, _ = _read(filename)
        left -= len(data or b'')
        if data:
            _pick_lines(filename, data, numbers, found)


def _pick_lines(filename, data, numbers, found):
    encoding = _encoding_of(data) or 'utf-8'
    last = max(numbers)
    for number, line in enumerate(io.BytesIO(_with_newlines(data)), 1):
        if number in numbers:
            text = line.strip()[:4 * _MAX_LINE].decode(encoding, 'replace')
            found[filename, number] = _shown(text)
        if number >= last:
            return


def _shown(text):
    return text.expandtabs().strip()[:_MAX_LINE]


def getline(filename, lineno):
    """linecache.getline(), without opening anything but source."""
    global _kept
    if _is_registered(filename):
        return linecache.getline(filename, lineno)
    cache = linecache.cache
    lazy = cache.get(filename)
    entry = _make_entry(filename, lazy)
    cache[filename] = entry or _NO_ENTRY
    try:
        return linecache.getline(filename, lineno)
    finally:
        size = entry[0] if entry else 0
        if entry and _kept + size <= _MAX_KEPT:
            _kept += size
        elif lazy is None:
            cache.pop(filename, None)
        else:
            cache[filename] = lazy


def _is_registered(filename):
    """True if linecache already has the text of a doctest, a notebook cell or
    a module, or knows that there is no file."""
    if filename.startswith('<') and filename.endswith('>'):
        return True
    return len(linecache.cache.get(filename, ' ')) != 1


def _make_entry(filename, lazy):
    """Return an entry for linecache, or None."""
    names = [filename]
    if not os.path.isabs(filename):
        names += [os.path.join(path, filename) for path in sys.path
                  if isinstance(path, str)]
    for name in names:
        data, time_changed = _read(name, _is_own(name))
        if data is not None and len(data) < _MAX_FILE:
            lines = _decode(data)
            return lines and (len(data), time_changed, lines, name)
    # A module that is in no file may have registered its text.
    try:
        text = lazy and lazy[0]()
    except (ImportError, OSError):
        text = None
    if text is None:
        return None
    lines = [f'{line}\n' for line in text.splitlines()]
    return len(text), None, lines, filename


def _is_own(name):
    """True if it is the program itself, whatever its name ends with."""
    return name == getattr(sys.modules.get('__main__'), '__file__', None)


def _decode(data):
    encoding = _encoding_of(data)
    if encoding is None:
        return None
    try:
        text = _with_newlines(data).decode(encoding)
    except (UnicodeError, LookupError):
        return None
    return [f'{line}\n' for line in text.removesuffix('\n').split('\n')]


def _with_newlines(data):
    return data.replace(b'\r\n', b'\n').replace(b'\r', b'\n')


def _encoding_of(data):
    """Return the encoding that the first lines name, None if that is none."""
    import codecs
    import tokenize
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        codec = codecs.lookup(encoding)
        b' '.decode(encoding)
    except (SyntaxError, LookupError, ValueError):
        return None
    return None if codec.name in _SLOW_CODECS else encoding


def _read(filename, own=False):
    """Return (first bytes of a source file, when it was changed), or None
    for both."""
    try:
        number = _open(filename, own)
        if number is not None:
            with open(number, 'rb') as file:
                return file.read(_MAX_FILE), os.fstat(number).st_mtime
    except (OSError, ValueError, MemoryError):
        pass
    return None, None


def _open(filename, own):
    """Open a regular file, and only if it is named as source is."""
    if len(filename) > _MAX_NAME or not (own or filename.endswith(SUFFIXES)):
        return None
    # The real name: no link is left in it to follow.
    name = os.path.realpath(filename)
    if not (own or name.endswith(SUFFIXES)):
        return None
    # Opening a device can have an effect.
    if not stat.S_ISREG(os.lstat(name).st_mode):
        return None
    # It may be another file by now.
    number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                     | os.O_NOCTTY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    return None
