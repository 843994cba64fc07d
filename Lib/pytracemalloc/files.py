"""Snapshots in, reports out: every way that a file can be wrong."""

import contextlib
import io
import os
import stat
import sys
import tempfile
from collections import namedtuple

from pytracemalloc import kept
from pytracemalloc.errors import CommandError, UsageError, reason_of
from pytracemalloc.options import (line_filters, make_filters,
                                   uses_references, view_options)
from pytracemalloc.terminal import Progress, say
from tracemalloc import whole_file
from tracemalloc.printable import encodable, printable
from tracemalloc.views import view_of
from tracemalloc.whole_file import is_special, open_special

# A snapshot unfolded, the same folded, and the part of that which passes the
# filters.
Loaded = namedtuple('Loaded', 'unfolded whole passing')

_GIVE = 'give a file written by `pytracemalloc run` or Snapshot.dump()'


def load_snapshot(path, references=False):
    """Return the snapshot of a file.

    *references*: also check the references, which else are left unread.
    """
    import tracemalloc
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode) and not os.path.getsize(path):
            raise CommandError(f'{path}: the file is empty; {_GIVE}')
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise CommandError(f'{path}: a device; {_GIVE}')
        with Progress(f'Reading {os.path.basename(path)}'):
            if stat.S_ISREG(mode) and kept.is_kept(path):
                return kept.load(path)[0]
            snapshot = tracemalloc.Snapshot.load(path)
            if references:
                snapshot._read_references()
            return snapshot
    except OSError as exc:
        raise CommandError(f"{path or repr('')}: {exc.strerror or exc}; "
                           f"{_GIVE}") from None
    except (ValueError, EOFError) as exc:
        reason = reason_of(exc).removeprefix(f'{path}: ')
        if reason.startswith('of a'):      # of another version: it is whole
            raise CommandError(f'{path}: {reason}') from None
        raise CommandError(f'{path}: not a whole snapshot: {reason}; copy it '
                           f'again or take a new one') from None


def load_view(path, args):
    """Return a Loaded."""
    return make_view(path, load_snapshot(path, uses_references(args)), args)


def make_view(path, unfolded, args):
    """Return the Loaded of a snapshot, *path* being its name.

    Filters of lines that count their callees are left to Subject.filters.
    What the filters leave empty is said with the report, see note_empty().
    """
    snapshot = whole = view_of(unfolded, **view_options(args))
    filters = make_filters(args)
    lines = line_filters(args)
    if not filters:
        return Loaded(unfolded, whole, whole)
    with Progress(f'Filtering {os.path.basename(path)}'):
        if not lines:
            snapshot = whole.filter_traces(filters)
        passing = snapshot.statistics('filename', bool(lines), 'total_size',
                                      lines)
    if not passing and path not in args.empty:
        args.empty += path,
    return Loaded(unfolded, whole, snapshot)


def note_empty(args):
    """Say which snapshots the filters leave empty.  An error that comes
    before the report is written would be a second line, and says more."""
    for path in args.empty:
        say(f'{path}: no allocation passes the filters')


def write_report(subject, reporter, args, source, ending=''):
    """Write to -o, to standard output or, in formats that other programs show,
    beside the snapshot."""
    output = args.output
    if output is None and reporter.beside:
        stem, suffix = os.path.splitext(source)
        output = (stem if suffix in ('.tracemalloc', '.pickle') else source
                  ) + ending + reporter.suffix
    if output is None or output == '-':
        _write_standard_output(subject, reporter, source)
        note_empty(args)
        return
    with create(output, args.force, reporter.binary) as file, \
            Progress(f'Writing {os.path.basename(output)}') as progress:
        subject.track = progress.track
        reporter.write(subject, file)
    note_empty(args)
    if args.output is None:
        print(f'Wrote {printable(output)}')


def _write_standard_output(subject, reporter, source):
    if sys.stdout.isatty():
        if reporter.binary:
            raise UsageError('this format is binary; give a file with -o')
        # Write the report when the bar, perhaps on this terminal, is gone.
        file = io.StringIO()
        with Progress(f'Reading {os.path.basename(source)}') as progress:
            subject.track = progress.track
            reporter.write(subject, file)
        _Output(sys.stdout).write(file.getvalue())
        return
    with Progress(f'Reading {os.path.basename(source)}') as progress:
        subject.track = progress.track
        reporter.write(subject, sys.stdout.buffer if reporter.binary
                       else _Output(sys.stdout))


def show_text(text):
    """Write a complete text to standard output."""
    _Output(sys.stdout).write(text)


class _Output:
    """Standard output.  Characters that its encoding lacks become escapes and,
    on a terminal, so do those that it would not show."""

    def __init__(self, file):
        self._file = file
        self._encoding = file.encoding or 'utf-8'
        self._shown = file.isatty()

    def write(self, text):
        if self._shown:
            text = '\n'.join(map(printable, text.split('\n')))
        self._file.write(encodable(text, self._encoding))

    def writelines(self, lines):
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def create(path, force, binary=False):
    """Open a file that appears under its name when it is complete."""
    try:
        if is_special(path):
            with _open(open_special(path), binary) as file:
                yield file
            return
        check_absent(path, force)
        with whole_file.create(path) as number, \
                _open(number, binary, closefd=False) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise CommandError(f'{path}: {exc.strerror or exc}; choose another '
                           f'place with -o') from None


def _open(number, binary, closefd=True):
    if binary:
        return open(number, 'wb', closefd=closefd)
    return open(number, 'w', encoding='utf-8', errors='backslashreplace',
                closefd=closefd)


def check_output(path, force):
    """Check whether a file can be written there when a program has ended."""
    check_absent(path, force)
    if is_special(path):
        return
    directory = os.path.dirname(path) or os.curdir
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
        whole_file.remove_abandoned(path)
    except OSError as exc:
        raise CommandError(f'{path}: {exc.strerror or exc}; choose another '
                           f'place with -o') from None


def check_absent(path, force):
    if not path:
        raise CommandError("'' is no file name; give one with -o")
    if os.path.isdir(path):
        raise CommandError(f'{path} is a directory; give a file name')
    if not force and os.path.lexists(path) and not is_special(path):
        raise CommandError(f'{path} exists; overwrite it with -f or choose '
                           f'another name with -o')
