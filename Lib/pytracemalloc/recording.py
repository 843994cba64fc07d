"""What `pytracemalloc run` does inside the program that it runs.

start() is called by the interpreter's start-up when the variable is set.  All
that is done at the end is registered before the program's first line, so
atexit calls it last.  endings.py has the ends that atexit does not see.
"""

import atexit
import contextlib
import json
import os
import sys

from _tracemalloc import _hidden
import tracemalloc
import tracemalloc.task           # its handler of forks comes before ours
from tracemalloc.printable import printable

from pytracemalloc import endings, summary
from pytracemalloc.private import PrivateModules
from pytracemalloc.reserve import Reserve
from pytracemalloc.terminal import Progress, width_of
from tracemalloc.sizes import format_size

VARIABLE = 'PYTRACEMALLOC_RUN'


def numbered(output, number):
    """Return the name of a numbered snapshot."""
    return _insert(output, f'{number:04}')


def _insert(output, part):
    if output == os.devnull:
        return output
    stem, suffix = os.path.splitext(output)
    return f'{stem}.{part}{suffix}'


class Recording:
    """The snapshots of one process."""

    def __init__(self, options):
        self.options = options
        self.output = options['output']
        self.name = options['name']       # for people, as they gave it
        self.pid = os.getpid()
        self.number = 0           # of the last numbered snapshot
        self.tasks = []
        self.finished = False
        self.endings = None
        self.modules = PrivateModules(sys.modules)
        self.reserve = Reserve()
        self.figures = None       # (current, peak) at the end
        self.written = False      # the last snapshot
        if self.pid != options['pid']:
            self._name_child()

    def _name_child(self):
        self.output = _insert(self.options['output'], self.pid)
        self.name = _insert(self.options['name'], self.pid)

    def start(self):
        tracemalloc._prepare()    # it takes a while, and nothing is traced yet
        if self.options['output']:
            self.endings = endings.Endings(self.finish)
            self.endings.watch(self.pid == self.options['pid'])
            atexit.register(self.finish, at_exit=True)
            os.register_at_fork(before=self.endings.before_fork,
                                after_in_parent=self.endings.after_fork,
                                after_in_child=self.forked)
        if self.options.get('http'):
            self.serve()
        tracemalloc.stop()        # the environment may have started it
        tracemalloc.start(self.options['frames'])
        self.schedule()

    def schedule(self):
        every, growth = self.options['every'], self.options['growth']
        for delay, threshold in ((every, None), (None, growth)):
            if delay or threshold:
                task = tracemalloc.task.Task(self.take_numbered)
                task.set_delay(delay)
                task.set_memory_threshold(threshold)
                task.schedule()
                self.tasks.append(task)

    def serve(self):
        from pytracemalloc import http
        host, port, names = self.options['http']
        try:
            server = http.serve(port, host, names)
        except OSError as exc:
            _say(f'cannot serve on {host}:{port}: {exc.strerror}; choose '
                 f'another --host or --port')
            return
        _say(f'serving {server.url}debug/pprof/')

    @_hidden
    def take_numbered(self):
        with self.endings, self.modules.visible():
            self._take_numbered()

    def _take_numbered(self):
        path = numbered(self.output, self.number + 1)
        try:
            for kind in self._kinds():
                with self._falls_back(kind, path):
                    tracemalloc.take_snapshot(**kind).dump(path)
                    self.number += 1
                    return
        except Exception as exc:
            _say(f'no snapshot: {self._reason(exc)}')

    def _kinds(self):
        """Yield what snapshots to try: arguments of take_snapshot()."""
        kind = self.options['kind']
        if 'references' in kind:
            yield kind
        if 'traces' not in kind:
            yield {}
        yield {'traces': False}

    @contextlib.contextmanager
    def _falls_back(self, kind, path):
        """Go on if there is no memory for references or single blocks."""
        try:
            yield
        except MemoryError:
            if 'references' in kind:
                _say(f'{path}: not enough memory for references; trying '
                     f'without them')
            elif 'traces' not in kind:
                _say(f'{path}: not enough memory for single blocks; trying '
                     f'the call tree alone, as with --no-traces')
            else:
                raise

    @_hidden
    def finish(self, at_exit=False):
        """Take the last snapshot, once a process."""
        self.reserve.release()    # first: there may be no memory at all
        if self.pid == os.getpid():
            with self.endings, self.modules.visible():
                self._finish(at_exit)

    def _finish(self, at_exit):
        if self.finished:
            return
        self.finished = True
        try:
            self._report(at_exit)
        except Exception as exc:
            missing = 'summary' if self.written else 'snapshot'
            _say(f'{self.output}: no {missing}: {self._reason(exc)}')
            self._say_figures()
        except KeyboardInterrupt:
            _say(f'{self.output}: interrupted before it was written')

    def _say_figures(self):
        if self.figures is not None and not self.options['quiet']:
            current, peak = map(format_size, self.figures)
            _say(f'{current} live, {peak} at the peak')

    def _report(self, at_exit):
        for task in self.tasks:
            task.cancel()
        if not tracemalloc.is_tracing():
            _say('no snapshot: the program has stopped tracing')
            return
        self.figures = tracemalloc.get_traced_memory()
        snapshot, name = self._take_last(at_exit)
        self.written = name is not None
        tracemalloc.stop()
        if self.options['quiet']:
            return
        if self.pid != self.options['pid']:
            _write_error(summary.make_short(snapshot, self.options['top'],
                                            name))
            return
        _write_error(summary.make(snapshot, self.options['top'], name,
                                  width_of(sys.__stderr__),
                                  self.options['view']))

    def _take_last(self, at_exit):
        """Return the last snapshot and its name, None if it has no file."""
        for kind in self._kinds():
            with self._falls_back(kind, self.output):
                snapshot = tracemalloc.take_snapshot(**kind)
                try:
                    return snapshot, self._dump_last(snapshot, at_exit)
                except MemoryError as exc:
                    if 'traces' in kind:
                        _say(f'{self.output}: no snapshot: '
                             f'{self._reason(exc)}')
                        return snapshot, None
                    del snapshot
                    raise

    def _dump_last(self, snapshot, at_exit):
        output = self.output
        if output == os.devnull:
            return None
        # A signal may have come while a thread was started.
        bar = (Progress(f'Writing {os.path.basename(output)}',
                        sys.__stderr__) if at_exit
               else contextlib.nullcontext())
        try:
            with bar:
                snapshot.dump(output)
        except OSError as exc:
            _say(f'{output}: no snapshot: {self._reason(exc)}')
            return None
        return self.name

    def _reason(self, exc):
        """What to say of an exception, which may have no text."""
        if isinstance(exc, MemoryError):
            return 'not enough memory'
        return getattr(exc, 'strerror', None) or str(exc) or repr(exc)

    @_hidden
    def forked(self):
        """In the child: record on, in a file of its own, or not at all."""
        tracemalloc.stop()
        self.endings.forked(self.options['follow'])
        if not self.options['follow']:
            return
        self.pid = os.getpid()
        self._name_child()
        self.number = 0
        self.tasks = []
        self.finished = False
        # What the parent holds is in the parent's snapshot.
        tracemalloc.start(self.options['frames'])
        self.schedule()


def start(known):
    """Record this process as the variable says.

    *known*: modules that the program may find, None for all.
    """
    try:
        options = json.loads(os.environ[VARIABLE])
        if not options['follow']:
            del os.environ[VARIABLE]
        recording = Recording(options)
        recording.start()
        if known is not None and not options.get('http'):
            recording.modules = PrivateModules(known)
    except Exception as exc:
        _say(f'cannot record: {VARIABLE}: {exc!r}')


def _say(text):
    _write_error([f'pytracemalloc: {text}'])


def _write_error(lines):
    """Write to the standard error that the process has begun with.

    Past the stream's buffer: what cannot be written would stay there, fail
    again at the interpreter's end and become its exit status.
    """
    stream = sys.__stderr__
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()
        text = ''.join(f'{printable(line)}\n' for line in lines)
        data = text.encode(stream.encoding, 'backslashreplace')
        while data:
            data = data[os.write(stream.fileno(), data):]
