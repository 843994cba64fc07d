"""What `pytracemalloc run` does inside the program that it runs.

start() is called by the interpreter's start-up when the variable is set.  All
that is done at the end is registered before the program's first line, so
atexit calls it last.  endings.py has the ends that atexit does not see.
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
        self.finished = False
        self.suspects = None
        self.endings = None
        if self.pid != options['pid']:
            self.output = self.name_of(self.pid)

    def name_of(self, part):
        stem, suffix = os.path.splitext(self.options['output'])
        return f'{stem}.{part}{suffix}'

    def start(self):
        # Imported now, while nothing is traced yet; the task's handler of
        # forks has to come before ours.
        import tracemalloc.task
        from pytracemalloc import endings, summary
        self.suspects = summary.Suspects()
        if self.options['output']:
            self.endings = endings.Endings(self.finish)
            self.endings.watch()
            atexit.register(self.finish)
            os.register_at_fork(after_in_child=self.forked)
        tracemalloc.stop()        # the environment may have started it
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
        with self.endings:
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
        if self.pid != os.getpid():
            return
        with self.endings:
            if self.finished:
                return
            self.finished = True
            try:
                self._report()
            except Exception as exc:
                _say(f'{self.output}: no snapshot: {exc}')
            except KeyboardInterrupt:
                _say(f'{self.output}: interrupted before it was written')

    def _report(self):
        import tracemalloc
        from pytracemalloc import summary
        for task in self.tasks:
            task.cancel()
        if not tracemalloc.is_tracing():
            _say('no snapshot: the program has stopped tracing')
            return
        snapshot = tracemalloc.take_snapshot(self.options['traces'])
        tracemalloc.stop()
        output = self.output
        if output != os.devnull:
            try:
                snapshot.dump(output)
            except OSError as exc:
                _say(f'{output}: no snapshot: {exc.strerror or exc}')
                output = os.devnull
        if self.options['quiet']:
            return
        if self.pid != self.options['pid']:
            summary.write_line(snapshot, output, sys.stderr)
            return
        self.suspects.look_at(snapshot)
        summary.write(snapshot, self.suspects, self.options['top'], output,
                      sys.stderr)

    def forked(self):
        """In the child: record on, in a file of its own, or not at all."""
        import tracemalloc
        from pytracemalloc import summary
        tracemalloc.stop()
        if not self.options['follow']:
            self.endings.unwatch()
            return
        self.endings.forked()
        self.pid = os.getpid()
        self.output = self.name_of(self.pid)
        self.numbers = itertools.count(1)
        self.suspects = summary.Suspects()
        self.tasks = []
        self.finished = False
        # What the parent holds is in the parent's snapshot.
        tracemalloc.start(self.options['frames'])
        self.schedule()


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
