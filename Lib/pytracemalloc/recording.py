"""What `pytracemalloc run` does inside the program that it runs.

start() is called by the interpreter's start-up when the variable is set.  All
that is done at the end is registered before the program's first line, so
atexit calls it last.  endings.py notices the ends that atexit does not see.
"""

import atexit
import contextlib
import json
import os
import sys
import time

from _tracemalloc import (_hidden, _keep, _keep_oom, _kept_oom,
                          _limit_passed, _tie_to)
import tracemalloc
import tracemalloc.task           # its handler of forks comes before ours
from tracemalloc.printable import printable

from pytracemalloc import agreed, cgroup, endings, kept, summary
from pytracemalloc.errors import reason_of
from pytracemalloc.private import PrivateModules
from pytracemalloc.reserve import Reserve
from pytracemalloc.terminal import Progress, can_encode, width_of
from tracemalloc.sizes import format_size

VARIABLE = 'PYTRACEMALLOC_RUN'
MEMORY = ''                       # where the tree is kept, else a file
_MOST_WAIT = 1000                 # ms, for the holder
_MOST_STEP = 16 << 20             # of growth, until the cgroup is looked at
_LEAST_STEP = 1 << 20


def numbered(output, number):
    """Return the name of a numbered snapshot."""
    return insert(output, f'{number:04}')


def insert(output, part):
    """Return the name with a part of its own, before the suffix."""
    if output == os.devnull:
        return output
    stem, suffix = os.path.splitext(output)
    return f'{stem}.{part}{suffix}'


def name_oom(output):
    """Return where the tree is written when a request for memory fails."""
    return os.path.splitext(output)[0] + kept.OOM


def name_tree(first, pid):
    """Return the file of the tree of a process that is followed."""
    output = first.removesuffix(kept.KEPT)
    return insert(output, pid) + first[len(output):]


class Recording:
    """The snapshots of one process."""

    def __init__(self, options):
        self.options = options
        self.output = options['output']
        self.name = options['name']       # for people, as they gave it
        self.pid = os.getpid()
        self.number = 0           # of the last numbered snapshot
        self.kept = []            # (path, what the file is) of these
        self.tasks = []
        self.finished = False
        self.endings = None
        self.modules = PrivateModules(sys.modules)
        self.reserve = Reserve()
        self.limit = None         # of the cgroup, if it is watched
        self.bound = None         # bytes, the part of it that is
        self.figures = None       # (current, peak) at the end
        self.written = False      # the last snapshot
        if self.pid != options['pid']:
            self._name_child()

    def _name_child(self):
        self.output = insert(self.options['output'], self.pid)
        self.name = insert(self.options['name'], self.pid)

    def start(self):
        if self.options.get('keep_tree') is not None and (
                self.pid == self.options['pid']):
            _tie_to(self.options['holder'])
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
        self._start()
        self.schedule()
        self.watch_limit()
        self.note()

    def note(self):
        """Note memory over time: without the GIL, by a thread in C."""
        if not self.options['history']:
            return
        try:
            tracemalloc.start_history()
        except OSError as exc:
            _say(f'no memory over time: {exc.strerror}')

    def _start(self):
        if self.options.get('oom'):
            _keep_oom(name_oom(self.output))
        tree = self.options.get('keep_tree')
        if tree is None:
            self._trace()
        elif tree == MEMORY:
            self._start_in_memory()
        else:
            first = self.pid == self.options['pid']
            _keep(tree if first else name_tree(tree, self.pid))
            self._trace()

    def _trace(self):
        native = self.options.get('native', False)
        less = (True, False) if type(native) is int else (False,)
        for native in (native, *less):
            try:
                tracemalloc.start(self.options['frames'], native=native)
                break
            except RuntimeError as exc:
                if not native:
                    raise
                _say(str(exc))

    def _start_in_memory(self):
        """The program's tree goes into memory that is held already; a process
        that is followed makes memory of its own."""
        if self.pid == self.options['pid']:
            _keep(self.options['memory'][0])
            self._trace()
        else:
            own = self._make_memory()
            _keep(own and f'/proc/self/fd/{own}')
            self._trace()
            if own:
                os.close(own)

    def _make_memory(self):
        """Return the descriptor of new memory that is held, or None."""
        path, *identity = self.options['memory']
        try:
            # Another process may have this number by now, and in another
            # namespace processes have other numbers.
            status = os.stat(path)
            if [status.st_dev, status.st_ino] != identity:
                return None
            own = os.memfd_create(agreed.MEMORY_NAME)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.kill(self.options['holder'], agreed.HOLD_MINE)
            for _ in range(_MOST_WAIT):
                if os.fstat(own).st_size:
                    return own
                time.sleep(0.001)
            _say(f'process {self.pid}: the call tree is not kept: process '
                 f'{self.options["holder"]} has not answered within a second')
        os.close(own)
        return None

    def schedule(self):
        every, growth = self.options['every'], self.options['growth']
        for delay, threshold in ((every, None), (None, growth)):
            if delay or threshold:
                task = tracemalloc.task.Task(self.take_numbered)
                task.set_delay(delay)
                task.set_memory_threshold(threshold)
                task.schedule()
                self.tasks.append(task)

    def watch_limit(self):
        """Take a snapshot when the cgroup comes near its limit, or is under
        pressure: looked at when traced memory has grown, and all the time by
        the thread that notes."""
        share = self.options['warn_at']
        if not share:
            return
        self.limit = limit = cgroup.find_limit()
        if limit is None:
            _say('--warn-at: no cgroup of this process has a limit of memory '
                 'that can be seen')
            return
        self.bound = bound = int(limit.limit * share)
        task = tracemalloc.task.Task(self.check_limit)
        task.set_memory_threshold(max(_LEAST_STEP, min(
            _MOST_STEP, (limit.limit - bound) // 4)))
        task.schedule()
        error = task._trigger.watch_limit(
            limit.usage_file, limit.events_file, limit.pressure_file,
            limit.control_file, bound)
        if error and self.pid == self.options['pid']:
            _say(f'--warn-at: {limit.pressure_file}: {os.strerror(error)}: '
                 f'the usage is watched, but not the memory pressure')
        self.tasks.append(task)

    @_hidden
    def check_limit(self):
        passed = _limit_passed(cgroup.read_number(self.limit.usage_file) or 0)
        if not passed:
            return
        used = (f'{format_size(passed)} of {format_size(self.limit.limit)}')
        before = self.number
        with self.endings, self.modules.visible():
            self._take_numbered({'cgroup': used})
            written = '' if self.number == before else (
                f'; {numbered(self.name, self.number)}')
            what = ('the cgroup is near its limit' if passed >= self.bound
                    else 'the cgroup is under memory pressure')
            _say(f'{what}: {used}{written}')

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

    def _take_numbered(self, metadata={}):
        path = numbered(self.output, self.number + 1)
        try:
            for kind in self._kinds():
                with self._falls_back(kind, path):
                    self._dump(kind, path, metadata)
                    self.number += 1
                    self._keep_newest(path)
                    return
        except Exception as exc:
            _say(f'no snapshot: {reason_of(exc)}')

    def _dump(self, kind, path, metadata):
        snapshot = tracemalloc.take_snapshot(**kind)
        snapshot.metadata.update(metadata)
        snapshot.dump(path)

    def _keep_newest(self, path):
        """Remove the oldest of the numbered files, if that is asked for."""
        self.kept.append((path, _identity(path)))
        if self.options['keep'] and len(self.kept) > self.options['keep']:
            path, written = self.kept.pop(0)
            # It may be another's by now.
            if written is not None and _identity(path) == written:
                try:
                    os.unlink(path)
                except OSError as exc:
                    _say(f'{path}: not removed: {exc.strerror}')

    def _say_kept(self):
        if removed := self.number - len(self.kept):
            first, last = (numbered(self.name, number)
                           for number in (removed + 1, self.number))
            _say(f'{removed:,} of {self.number:,} numbered snapshots removed '
                 f'(--keep); left: {first}'
                 + (f' to {last}' if last != first else ''))

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
        failed = _kept_oom()
        try:
            self._report(at_exit)
        except Exception as exc:
            missing = 'summary' if self.written else 'snapshot'
            _say(f'{self.output}: no {missing}: {reason_of(exc)}')
            self._say_figures()
        except KeyboardInterrupt:
            _say(f'{self.output}: interrupted before it was written')
        if failed and not self.options['quiet']:
            self._say_failed(failed)

    def _say_failed(self, path):
        """What the request for memory was that failed, and what was live."""
        name = (name_oom(self.name) if path == name_oom(self.output)
                else path)
        try:
            snapshot, _ = kept.load(path)
            _write_error(summary.make_failed(
                snapshot, self.options['top'], name,
                self.pid != self.options['pid'], width_of(sys.__stderr__),
                self.options['view']))
        except Exception:
            _say(f'a request for memory has failed: {name}')

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
        self._say_kept()
        if self.pid != self.options['pid']:
            _write_error(summary.make_short(snapshot, self.options['top'],
                                            name))
            return
        _write_error(summary.make(snapshot, self.options['top'], name,
                                  width_of(sys.__stderr__),
                                  self.options['view'],
                                  can_encode(sys.__stderr__, '▁█')))

    def _take_last(self, at_exit):
        """Return the last snapshot and its name, None if it has no file."""
        for kind in self._kinds():
            with self._falls_back(kind, self.output):
                snapshot = tracemalloc.take_snapshot(**kind)
                try:
                    return snapshot, self._dump_last(snapshot, at_exit)
                except MemoryError as exc:
                    if 'traces' in kind:
                        _say(f'{self.output}: no snapshot: {reason_of(exc)}')
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
            _say(f'{output}: no snapshot: {reason_of(exc)}')
            return None
        return self.name

    @_hidden
    def forked(self):
        """In the child: record on, in a file of its own, or not at all."""
        tracemalloc.stop()
        self.endings.forked(self.options['follow'])
        tracemalloc.stop_history()
        if not self.options['follow']:
            return
        self.pid = os.getpid()
        self._name_child()
        self.number = 0
        self.kept = []
        self.tasks = []
        self.finished = False
        # What the parent holds is in the parent's snapshot.
        self._start()
        self.schedule()
        self.watch_limit()
        self.note()


def _identity(path):
    """Return what tells a file from a later one of the same name, or None if
    there is no file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


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
