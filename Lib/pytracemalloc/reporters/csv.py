"""Every group with every value, for a spreadsheet or a script."""

import csv

from pytracemalloc.measures import COLUMNS
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import key_text

_DIFFERENCES = ('size', 'size_diff', 'count', 'count_diff')


class CsvReporter(Reporter):
    suffix = '.csv'

    def write(self, subject, file):
        columns = _DIFFERENCES if subject.old is not None else COLUMNS
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow((subject.by, *columns))
        for stat in subject.track(subject.statistics()):
            writer.writerow((key_text(stat, subject.by),
                             *(getattr(stat, name) for name in columns)))
