"""What the tests of the command share."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

from pytracemalloc import cli

PROGRAM = '''\
import sys

def load(count):
    return [bytes(1000) for _ in range(count)]

class Cache:
    kept = {}

    def keep(self, name):
        self.kept[name] = load(50)

cache = Cache()
for number in range(20):
    cache.keep(number)
    load(400)
'''


def command(*args, **options):
    """Run the command in a process of its own."""
    options = {'capture_output': True, 'text': True, 'timeout': 120} | options
    return subprocess.run([sys.executable, '-m', 'pytracemalloc', *args],
                          **options)


def heed_signals(case):
    """Start the programs of a test with the default actions: those of nohup,
    or of a shell's background job, ignore some signals."""
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            case.addCleanup(signal.signal, number, signal.SIG_IGN)


class CommandCase(unittest.TestCase):
    @classmethod
    def make_app(cls, text=PROGRAM):
        """Write app.py into a directory of the class, *source*; return its
        path."""
        cls.source = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.source)
        path = os.path.join(cls.source, 'app.py')
        with open(path, 'w') as file:
            file.write(text)
        return path

    def start_watched(self):
        """Start a program with the control socket c.sock; return its process
        id."""
        program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc', '-X',
             'tracemalloc_control=c.sock', '-c', 'import sys\n'
             'print("ready", flush=True); sys.stdin.read()'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(program.communicate)
        program.stdout.readline()
        return program.pid

    def setUp(self):
        heed_signals(self)
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(textwrap.dedent(text))
        return path

    def call(self, *args):
        """Call the command here: return (status, stdout, stderr)."""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), \
                contextlib.redirect_stderr(errors):
            try:
                status = cli.main(args)
            except SystemExit as exc:
                status = exc.code
        return status, output.getvalue(), errors.getvalue()

    def ok(self, *args):
        status, output, errors = self.call(*args)
        self.assertEqual((status, errors), (0, ''))
        return output

    def refused(self, status, text, *args):
        """The command ends with one line that has *text*."""
        actual, _, errors = self.call(*args)
        self.assertEqual(actual, status, errors)
        self.assertRegex(errors, text)
        self.assertEqual(errors.count('\n'), 1, errors)
