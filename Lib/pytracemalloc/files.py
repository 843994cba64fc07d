"""Snapshots in, reports out: every way that a file can be wrong."""

import contextlib
import io
import os
import sys
import tempfile

from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.options import make_filters
from pytracemalloc.terminal import Progress


def load_snapshot(path, args):
    """Return the filtered snapshot of a file."""
    import tracemalloc
    name = os.path.basename(path)
    try:
        if not os.path.getsize(path) and os.path.isfile(path):
            raise CommandError(f'{path}: the file is empty; was the program '
                               f'still running?')
        with Progress(f'Reading {name}'):
            snapshot = tracemalloc.Snapshot.load(path)
    except OSError as exc:
        raise CommandError(f'{path}: {exc.strerror or exc}; give a file '
                           f'written by `pytracemalloc run` or '
                           f'Snapshot.dump()') from None
    except (ValueError, EOFError) as exc:
        reason = str(exc).removeprefix(f'{path}: ')
        raise CommandError(f'{path}: not a whole snapshot: {reason}'
                           ) from None
    filters = make_filters(args)
    if not filters:
        return snapshot
    with Progress(f'Filtering {name}'):
        return snapshot.filter_traces(filters)


def write_report(subject, reporter, args, source, ending=''):
    """Write to -o, to standard output or, what is for other programs to
    show, beside the snapshot."""
    output = args.output
    if output is None and reporter.beside:
        stem, suffix = os.path.splitext(source)
        output = (stem if suffix in ('.tracemalloc', '.pickle') else source
                  ) + ending + reporter.suffix
    if output is None or output == '-':
        _write_standard_output(subject, reporter, source)
        return
    with create(output, args.force, reporter.binary) as file, \
            Progress(f'Writing {os.path.basename(output)}') as progress:
        subject.track = progress.track
        reporter.write(subject, file)
    if args.output is None:
        print(f'Wrote {output}')


def _write_standard_output(subject, reporter, source):
    if sys.stdout.isatty():
        if reporter.binary:
            raise UsageError('this format is binary; give a file with -o')
        # The report comes when the bar, perhaps of this terminal, has gone.
        file = io.StringIO()
        with Progress(f'Reading {os.path.basename(source)}') as progress:
            subject.track = progress.track
            reporter.write(subject, file)
        _Escaping(sys.stdout).write(file.getvalue())
        return
    with Progress(f'Reading {os.path.basename(source)}') as progress:
        subject.track = progress.track
        reporter.write(subject, sys.stdout.buffer if reporter.binary
                       else _Escaping(sys.stdout))


class _Escaping:
    """Standard output that shows what its encoding lacks as escapes."""

    def __init__(self, file):
        self._file = file
        self._encoding = file.encoding or 'utf-8'

    def write(self, text):
        self._file.write(text.encode(self._encoding, 'backslashreplace')
                         .decode(self._encoding))

    def writelines(self, lines):
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def create(path, force, binary=False):
    """Open a file that appears under its name when it is complete."""
    if _is_special(path):
        with open(path, 'wb' if binary else 'w') as file:
            yield file
        return
    check_absent(path, force)
    directory = os.path.dirname(path) or '.'
    number, name = tempfile.mkstemp(prefix='.pytracemalloc-', dir=directory)
    try:
        with (open(number, 'wb') if binary else
              open(number, 'w', encoding='utf-8',
                   errors='backslashreplace')) as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def check_absent(path, force):
    if os.path.isdir(path):
        raise CommandError(f'{path} is a directory; give a file name')
    if not force and os.path.lexists(path) and not _is_special(path):
        raise CommandError(f'{path} exists; overwrite it with -f or choose '
                           f'another name with -o')


def _is_special(path):
    """Pipes and devices, such as /dev/null, are written to, not replaced."""
    return (os.path.exists(path) and not os.path.isfile(path)
            and not os.path.isdir(path))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
