"""Go's tools, where there are any."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

HAS_GO = shutil.which('go') and not subprocess.call(
    ['go', 'tool', 'pprof', '-h'], stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL) in (126, 127)
SECONDS = 120


def pprof(*args):
    """Return what `go tool pprof` prints, sizes in bytes."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            ['go', 'tool', 'pprof', '-unit=B', *args], capture_output=True,
            text=True, timeout=SECONDS,
            env=os.environ | {'PPROF_TMPDIR': directory})
    if done.returncode:
        raise AssertionError(f'go tool pprof {args}: {done.stderr}')
    return done.stdout


class Web:
    """`go tool pprof -http`; a context manager that gives the URL."""

    def __init__(self, path):
        self._process = subprocess.Popen(
            ['go', 'tool', 'pprof', '-unit=B', '-no_browser',
             '-http=127.0.0.1:', path], stderr=subprocess.PIPE, text=True,
            start_new_session=True)

    def __enter__(self):
        for line in self._process.stderr:
            if 'Serving web UI on ' in line:
                return line.split()[-1]
        raise AssertionError('go tool pprof -http does not serve')

    def __exit__(self, *exc_info):
        # It may have started the real one as its child.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stderr.close()


class Program:
    """A Go program that parses profiles as collectors do; once built."""

    # The first is the last version that Debian 12's Go can build.
    MODULE = '''\
module collector

go 1.19

require github.com/google/pprof v0.0.0-20240227163752-401108e1b7e7
'''
    SUMS = '''\
github.com/google/pprof v0.0.0-20240227163752-401108e1b7e7 \
h1:y3N7Bm7Y9/CtpiVkw/ZWj6lSlDF3F74SfKwfTCer72Q=
github.com/google/pprof v0.0.0-20240227163752-401108e1b7e7/go.mod \
h1:czg5+yv1E0ZGTi6S6vVK1mke0fV+FaUhNGcd6VRS9Ik=
'''

    def __init__(self, source, directory):
        """Raise SkipTest if the Go proxy is out of reach."""
        directory = Path(directory)
        (directory / 'go.mod').write_text(self.MODULE)
        (directory / 'go.sum').write_text(self.SUMS)
        (directory / 'main.go').write_text(source)
        self.path = directory / 'collector'
        for command in (['mod', 'download'], ['build', '-o', self.path]):
            done = subprocess.run(['go', *command], cwd=directory,
                                  capture_output=True, text=True,
                                  timeout=SECONDS)
            if done.returncode and command[0] == 'mod':
                raise unittest.SkipTest(f'go mod download: {done.stderr}')
            if done.returncode:
                raise AssertionError(done.stderr)

    def run(self, *args):
        done = subprocess.run([self.path, *args], capture_output=True,
                              text=True, timeout=SECONDS)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return done.stdout
