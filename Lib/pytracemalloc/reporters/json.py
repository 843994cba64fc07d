"""The snapshot's figures and every group with every value, as JSON.

report.schema.json says what stands where; VERSION counts its changes.
"""

import json
import math

from pytracemalloc import arenas, curve, moments
from pytracemalloc.documents import name_view
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import (key_fields, key_values,
                                          value_columns)

VERSION = 5
SERIES_VERSION = 1


class JsonReporter(Reporter):
    suffix = '.json'

    def write(self, subject, file):
        if subject.series is not None:
            _write_series(subject, file)
            return
        columns, attributes = value_columns(subject)
        document = {'format': 'pytracemalloc report', 'version': VERSION,
                    'snapshot': describe(subject.new)
                    | {'next_peaks': _next_peaks(subject)}
                    | _resident(subject),
                    'history': curve.columns_of(subject.new)}
        if subject.old is not None:
            document['old'] = describe(subject.old)
        document['view'] = name_view(subject.view)
        document['by'] = subject.by
        head = json.dumps(document, indent=1, default=str)
        # One at a time: there may be millions.
        file.write(head.removesuffix('\n}') + ',\n "statistics": [')
        groups = subject.statistics(every=True)
        names = [*key_fields(subject), *columns]
        for index, stat in enumerate(subject.track(groups)):
            values = [*key_values(stat, subject),
                      *(getattr(stat, name) for name in attributes)]
            file.write((',\n  ' if index else '\n  ')
                       + json.dumps(dict(zip(names, values)), default=str))
        file.write('\n ]\n}\n')


def _write_series(subject, file):
    series, measure = subject.series, subject.measure
    groups = series.rows(measure)
    document = {
        'format': 'pytracemalloc series', 'version': SERIES_VERSION,
        'snapshots': [{
            'file': taken.path, 'pid': taken.pid,
            'timestamp': taken.timestamp and taken.timestamp.isoformat(),
            'traced_memory': taken.traced, 'peak_memory': taken.peak}
            for taken in series.taken],
        'history': curve.columns_of(subject.new),
        'view': name_view(subject.view), 'by': subject.by,
        'what': measure.name,
        'statistics': [
            dict(zip(key_fields(subject), key_values(row.stat, subject)))
            | {'size': row.sizes, 'count': row.counts}
            for row in subject.track(groups)]}
    json.dump(document, file, indent=1, default=str)
    file.write('\n')


def _resident(subject):
    if subject.old is not None:
        return {}
    snapshot = subject.whole or subject.new
    if snapshot.rss is None:
        return {'rss': None, 'arenas': None}
    return {'rss': arenas.document_rss(snapshot.rss),
            'arenas': arenas.document(snapshot.arena_use, subject.count)}


def _next_peaks(subject):
    if subject.old is not None:
        return []
    return [{'timestamp': moment.timestamp.isoformat(),
             'traced_memory': moment.size,
             'more': [_site(stat) for stat in moment.more[:subject.count]]}
            for moment in moments.find(subject.shown())]


def _site(stat):
    frame = stat.traceback[-1]
    return {'filename': frame.filename, 'lineno': frame.lineno,
            'function': frame.function, 'size': stat.size,
            'size_diff': stat.size_diff, 'count': stat.count,
            'count_diff': stat.count_diff}


def describe(snapshot):
    current, peak = snapshot.traced_memory
    timestamp = snapshot.timestamp
    return {'timestamp': timestamp and timestamp.isoformat(),
            'pid': snapshot.pid,
            'traceback_limit': snapshot.traceback_limit,
            'traced_memory': current, 'peak_memory': peak,
            'freelists': {name: {'count': blocks, 'size': size}
                          for name, (blocks, size)
                          in snapshot.freelists.items()},
            'metadata': _plain(snapshot.metadata)}


def _plain(value):
    """The value as JSON has it: a pickle may hold other keys and types."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item)
                for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
