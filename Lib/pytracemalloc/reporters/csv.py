"""Every group with every value, for a spreadsheet or a script."""

import csv
import re

from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import key_text, value_columns

# Where a spreadsheet begins to compute, perhaps after white space.
_FORMULA = re.compile(r'[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]')


class CsvReporter(Reporter):
    suffix = '.csv'

    def write(self, subject, file):
        columns, attributes = value_columns(subject)
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow((subject.by, *columns))
        for stat in subject.track(subject.statistics(every=True)):
            writer.writerow((_harmless(key_text(stat, subject.by)),
                             *(getattr(stat, name) for name in attributes)))


def _harmless(text):
    """A spreadsheet would compute a name such as =1+1, or worse."""
    return f"'{text}" if _FORMULA.match(text) else text
