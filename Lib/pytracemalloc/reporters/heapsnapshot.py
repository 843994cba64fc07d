"""V8's heap snapshot, for Chrome's DevTools, memlab and others.

It is written in C, for there may be millions of objects.
"""

from pytracemalloc.reporters import Reporter


class HeapSnapshotReporter(Reporter):
    suffix = '.heapsnapshot'
    beside = True
    binary = True

    def write(self, subject, file):
        subject.new._write_heapsnapshot(file.write)
