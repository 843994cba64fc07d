"""Every group with every value, for a spreadsheet or a script."""

import csv
import re

from pytracemalloc.measures import BLOCK_KEYS, find_key
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import (key_fields, key_text, key_values,
                                          value_columns)

# A cell that begins so, perhaps after white space, is a formula.
_FORMULA = re.compile(r'[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]')


class CsvReporter(Reporter):
    suffix = '.csv'

    def write(self, subject, file):
        columns, attributes = value_columns(subject)
        peaks = _next_peaks(subject)
        titles = [f'next_peak_{number}_{value}' for number, _
                  in enumerate(peaks, 1) for value in ('size', 'count')]
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow((*key_fields(subject), *columns, *titles))
        for stat in subject.track(subject.statistics(every=True)):
            writer.writerow((*map(_harmless, _cells(stat, subject)),
                             *(getattr(stat, name) for name in attributes),
                             *(value for peak in peaks
                               for value in peak.get(stat.key, (0, 0)))))


def _next_peaks(subject):
    """Return size and count of each group at the next highest moments."""
    if subject.old is not None or subject.by in BLOCK_KEYS:
        return []
    key_type, _ = find_key(subject.by)
    return [{stat.key: (stat.size, stat.count) for stat in peak.statistics(
                key_type, subject.cumulative, filters=subject.filters)}
            for peak in subject.new.peaks[1:]]


def _cells(stat, subject):
    cells = key_values(stat, subject)
    if subject.by == 'traceback':         # of any length
        return (key_text(stat, subject.by), *cells[1:])
    return cells


def _harmless(value):
    """Put a quote before a name that a spreadsheet would compute."""
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value
