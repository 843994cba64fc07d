"""All programs that have a control socket in a directory, as one.

It has the interface of client.Client: each request goes to all programs, and
figures and rows of the same place are added up.  Programs come and go: the
directory is read again each time their status is asked for.
"""

import glob
import os

from pytracemalloc.client import Client
from pytracemalloc.errors import CommandError

_MOST = 1000                      # sockets that are looked at


class Workers:
    """The programs of a directory; a context manager."""

    root = ''

    def __init__(self, directory):
        self.directory = directory
        self._clients = {}        # by path
        self._find()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for path in list(self._clients):
            self._drop(path)

    def _drop(self, path):
        self._clients.pop(path).__exit__()

    def _find(self):
        pattern = os.path.join(glob.escape(self.directory), '*.sock')
        problem = None
        for path in sorted(glob.glob(pattern))[:_MOST]:
            if path not in self._clients:
                try:
                    self._clients[path] = Client(path)
                except CommandError as exc:
                    problem = exc
        if not self._clients:
            raise CommandError(
                f'{self.directory}: no program has a control socket there; '
                f'start it with PYTRACEMALLOC_CONTROL={self.directory}'
                + (f' ({problem})' if problem else ''))

    def each(self):
        """Return the client of each program."""
        return list(self._clients.values())

    def ask(self, command, **arguments):
        """Return the answers of all as one.  A program that does not answer is
        gone."""
        if command == 'status':
            self._find()
        answers = []
        problem = None
        for path, client in list(self._clients.items()):
            try:
                answers.append(client.ask(command, **arguments))
            except CommandError as exc:
                self._drop(path)
                problem = exc
        if not answers:
            raise problem or CommandError(f'{self.directory}: all programs '
                                          f'have ended')
        return _merge_rows(answers, arguments) if 'rows' in answers[0] \
            else _merge_status(answers)


def _merge_status(answers):
    return {'pid': None, 'argv': answers[0]['argv'], 'workers': answers,
            'tracing': any(answer['tracing'] for answer in answers),
            'traceback_limit': max(answer['traceback_limit']
                                   for answer in answers),
            'time': max(answer['time'] for answer in answers),
            **{name: sum(answer[name] or 0 for answer in answers)
               for name in ('current', 'peak', 'tracer', 'process')}}


def _merge_rows(answers, arguments):
    rows = {}
    for answer in answers:
        for name, *values in answer['rows']:
            before = rows.get(name)
            rows[name] = values if before is None else [
                None if None in pair else sum(pair)
                for pair in zip(before, values)]
    place = {'count': 1, 'total_size': 2, 'peak_size': 4}.get(
        arguments.get('order'), 0)
    ordered = sorted(([name, *values] for name, values in rows.items()),
                     key=lambda row: -(row[place + 1] or 0))
    merged = _merge_status(answers)
    # All may have the same places: the largest number is the best guess.
    groups = max(len(rows), *(answer['groups'] for answer in answers))
    return merged | {'groups': groups,
                     'rows': ordered[:arguments.get('limit')]}
