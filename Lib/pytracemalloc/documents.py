"""What commands print with --json: objects that begin as those of reports do,
with `format` and `version`.  pytracemalloc.schema.json says what stands where.
"""

import datetime
import json

from pytracemalloc.files import show_text

VERSION = 1


def make(name, **fields):
    """Return the document of a command."""
    return {'format': f'pytracemalloc {name}', 'version': VERSION} | fields


def show(documents):
    """Write each as a line."""
    show_text(''.join(json.dumps(document) + '\n' for document in documents))


def show_status(status, **more):
    """Write an answer to the request `status`, or to one that answers so."""
    show([make('status', **status_fields(status), **more)])


def status_fields(status):
    """Return what an answer to the request `status` says, by the names that
    reports have."""
    return {'pid': status['pid'], 'argv': status['argv'],
            'timestamp': local_time(status['time']),
            'tracing': status['tracing'],
            'traceback_limit': status['traceback_limit'],
            'traced_memory': status['current'],
            'peak_memory': status['peak'],
            'tracer_memory': status['tracer'],
            'process_memory': status['process']}


def local_time(seconds):
    try:
        return datetime.datetime.fromtimestamp(seconds).isoformat()
    except (ValueError, OverflowError, OSError):
        return None               # the program says so


def name_view(view):
    """Return what a view shows, of arguments of views.view_of()."""
    if view.get('my_code'):
        return 'my code'
    return 'unfolded' if view.get('unfold', True) else 'folded'
