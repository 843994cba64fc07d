"""What `pytracemalloc run` does inside the program that it runs.

start() is called by the interpreter's start-up when the variable is set.  All
that is done at the end is registered before the program's first line, so
atexit calls it last.
"""

import atexit
import itertools
import json
import os
import sys

VARIABLE = 'PYTRACEMALLOC_RUN'


class Recording:
    """The snapshots of one process."""

    def __init__(self, options):
        self.options = options
        self.output = options['output']
        self.pid = os.getpid()
        self.numbers = itertools.count(1)
        self.tasks = []
        self.suspects = None
        if self.pid != options['pid']:
            self.output = self.name_of(self.pid)

    def name_of(self, part):
        stem, suffix = os.path.splitext(self.options['output'])
        return f'{stem}.{part}{suffix}'

    def start(self):
        import tracemalloc
        # Imported now, while nothing is traced yet.
        from pytracemalloc import summary
        self.suspects = summary.Suspects()
        if self.options['output']:
            atexit.register(self.finish)
            os.register_at_fork(after_in_child=self.forked)
        tracemalloc.start(self.options['frames'])
        self.schedule()
        if self.options.get('http'):
            self.serve()

    def schedule(self):
        every, growth = self.options['every'], self.options['growth']
        if not every and not growth:
            return
        from tracemalloctext import Task
        for delay, threshold in ((every, None), (None, growth)):
            if delay or threshold:
                task = Task(self.take_numbered)
                task.set_delay(delay)
                task.set_memory_threshold(threshold)
                task.schedule()
                self.tasks.append(task)

    def serve(self):
        from tracemalloc import http
        host, port = self.options['http']
        try:
            server = http.serve(port, host)
        except OSError as exc:
            _say(f'cannot serve on {host}:{port}: {exc.strerror}; choose '
                 f'another --port')
            return
        _say(f'serving {server.url}debug/pprof/')

    def take_numbered(self):
        import tracemalloc
        try:
            snapshot = tracemalloc.take_snapshot(self.options['traces'])
            self.suspects.look_at(snapshot)
            part = f'{next(self.numbers):04}'
            if self.pid != self.options['pid']:
                part = f'{self.pid}.{part}'
            snapshot.dump(self.name_of(part))
        except Exception as exc:
            _say(f'no snapshot: {exc}')

    def finish(self):
        """Take the last snapshot, once a process."""
        import tracemalloc
        from pytracemalloc import summary
        if self.pid != os.getpid() or not tracemalloc.is_tracing():
            return
        try:
            for task in self.tasks:
                task.cancel()
            snapshot = tracemalloc.take_snapshot(self.options['traces'])
            tracemalloc.stop()
            if self.output != os.devnull:
                snapshot.dump(self.output)
            if not self.options['quiet']:
                self.suspects.look_at(snapshot)
                summary.write(snapshot, self.suspects, self.options['top'],
                              self.output, sys.stderr)
        except Exception as exc:
            _say(f'{self.output}: no snapshot: {exc}')
        except KeyboardInterrupt:
            _say(f'{self.output}: interrupted before it was written')

    def forked(self):
        """In the child: record on, in a file of its own, or not at all."""
        import tracemalloc
        tracemalloc.stop()
        if not self.options['follow']:
            return
        self.pid = os.getpid()
        self.output = self.name_of(self.pid)
        self.numbers = itertools.count(1)
        # What the parent holds is in the parent's snapshot.
        tracemalloc.start(self.options['frames'])
        self._before_exit()

    def _before_exit(self):
        # multiprocessing clears atexit in a child that it forks, and such a
        # child, like most, ends by os._exit().
        leave = os._exit

        def _exit(status):
            self.finish()
            leave(status)

        os._exit = _exit


def start():
    """Record this process as the variable says."""
    try:
        options = json.loads(os.environ[VARIABLE])
        if not options['follow']:
            del os.environ[VARIABLE]
        Recording(options).start()
    except Exception as exc:
        _say(f'cannot record: {VARIABLE}: {exc!r}')


def _say(text):
    try:
        print(f'pytracemalloc: {text}', file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass
