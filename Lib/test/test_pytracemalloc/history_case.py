"""Programs whose memory over time is noted."""

import os
import subprocess
import sys
import textwrap
import time
import tracemalloc
import unittest

MOST = 2048                       # notes
PATIENCE = 30                     # seconds


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('it takes too long')
        time.sleep(.002)


def run(code, *options, **more):
    environment = {key: value for key, value in os.environ.items()
                   if key != 'PYTRACEMALLOC_HISTORY'}
    return subprocess.run(
        [sys.executable, *options, '-c', textwrap.dedent(code)], text=True,
        capture_output=True, timeout=120,
        **{'env': environment | more.pop('env', {})} | more)


class HistoryCase(unittest.TestCase):

    def setUp(self):
        self.addCleanup(tracemalloc.stop_history)

    def start(self, interval=.002):
        tracemalloc.start_history(interval)

    def new_notes(self, number=3):
        """Wait for so many notes; return them.  Nothing is allocated
        meanwhile."""
        start = time.time()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(.01)
            # The last one is made for us.
            notes = tracemalloc.get_history()[:-1]
            if sum(note.time > start for note in notes) >= number:
                return [note for note in notes if note.time > start]
        self.fail('no new notes')
