"""Every group with every value, for a spreadsheet or a script."""

import csv
import re

from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import (key_fields, key_text, key_values,
                                          value_columns)

# Where a spreadsheet begins to compute, perhaps after white space.
_FORMULA = re.compile(r'[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]')


class CsvReporter(Reporter):
    suffix = '.csv'

    def write(self, subject, file):
        columns, attributes = value_columns(subject)
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow((*key_fields(subject), *columns))
        for stat in subject.track(subject.statistics(every=True)):
            writer.writerow((*map(_harmless, _cells(stat, subject)),
                             *(getattr(stat, name) for name in attributes)))


def _cells(stat, subject):
    cells = key_values(stat, subject)
    if subject.by == 'traceback':         # of any length
        return (key_text(stat, subject.by), *cells[1:])
    return cells


def _harmless(value):
    """A spreadsheet would compute a name such as =1+1, or worse."""
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value
