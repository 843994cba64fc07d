"""References looked at by a child process, while the program goes on."""

import os
import subprocess
import sys
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.helpers import SANITIZED

HELD = """
import tracemalloc
class Held: pass
KEPT = [Held() for i in range(10)]
"""
# Each child is the one process whose parent this is.
KILL = """
import os, signal, threading
killed = []
ended = False
def kill():
    while not ended:
        for name in os.listdir('/proc'):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    with open(f'/proc/{name}/stat') as file:
                        parent = file.read().rpartition(')')[2].split()[1]
                    if int(parent) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
                        killed.append(name)
                except OSError:
                    pass
thread = threading.Thread(target=kill)
thread.start()
"""


@unittest.skipUnless(sys.platform == 'linux', "needs clone() and memfd")
class ChildTests(unittest.TestCase):
    def run_program(self, code):
        done = subprocess.run([sys.executable, '-X', 'tracemalloc=5', '-c',
                               HELD + code], capture_output=True, text=True,
                              timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_same_as_with_pause(self):
        out = self.run_program("""
paths = []
for pause in (True, False, None):
    why = tracemalloc.take_snapshot(references=True, pause=pause).why(
        type='Held')
    paths.append((why.count, why.size, [str(path) for path in why.paths]))
assert paths[0] == paths[1] == paths[2], paths
print(*paths[0])
""")
        self.assertIn('__main__.KEPT[...] -> Held (10)', out)

    def test_nobody_sees_the_child(self):
        self.run_program("""
import os, signal
seen = []
signal.signal(signal.SIGCHLD, lambda *args: seen.append(args))
tracemalloc.take_snapshot(references=True, pause=False)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise SystemExit('a child is there')
assert seen == []
""")

    def test_no_descriptor_stays(self):
        self.run_program("""
import os
before = os.listdir('/proc/self/fd')
for i in range(5):
    tracemalloc.take_snapshot(references=True, pause=False)
assert os.listdir('/proc/self/fd') == before
""")

    def test_descriptors_that_are_free(self):
        """The file in memory may be number 0, or any other."""
        self.run_program("""
import os
for fd in (0, 1):
    os.close(fd)
    snapshot = tracemalloc.take_snapshot(references=True, pause=False)
    assert snapshot.why(type='Held').count == 10
""")

    def test_no_child(self):
        out = self.run_program("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    tracemalloc.take_snapshot(references=True, pause=False)
except OSError as exc:
    print(exc)
for pause in (True, None):
    tracemalloc.take_snapshot(references=True, pause=pause)
""")
        self.assertRegex(out, 'no child can record the references: '
                              'Too many open files')

    def test_killed_child(self):
        out = self.run_program("""
KEPT.extend({i: [i]} for i in range(200_000))
""" + KILL + """
try:
    for i in range(20):
        tracemalloc.take_snapshot(references=True, pause=False)
except ChildProcessError as exc:
    print(exc)
ended = True
thread.join()
tracemalloc.take_snapshot(references=True, pause=False)
""")
        self.assertIn('was killed by signal 9', out)

    @unittest.skipIf(SANITIZED, "a sanitizer's own memory is large")
    def test_in_small_processes(self):
        """Only there a child is the usual way; the program walks without."""
        out = self.run_program(KILL + """
def kills(times):
    before = len(killed)
    for i in range(times):
        snapshot = tracemalloc.take_snapshot(references=True)
        assert snapshot.why(type='Held').count == 10
        if len(killed) > before:
            break
    return len(killed) - before
small = kills(200)
KEPT.append(b'x' * (64 << 20))
print(small > 0, kills(5))
ended = True
thread.join()
""")
        self.assertEqual(out, 'True 0\n')

    def test_other_threads_go_on(self):
        """Threads that hold locks of the C library all the time."""
        self.run_program("""
import threading
stop = threading.Event()
def work():
    while not stop.is_set():
        bytearray(100_000)
        [str(i) for i in range(100)]
threads = [threading.Thread(target=work) for i in range(4)]
for thread in threads:
    thread.start()
for i in range(5):
    snapshot = tracemalloc.take_snapshot(references=True, pause=False)
    assert snapshot.why(type='Held').count == 10
stop.set()
for thread in threads:
    thread.join()
""")

    def test_needs_references(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaisesRegex(ValueError, 'add references=True'):
            tracemalloc.take_snapshot(pause=False)


@unittest.skipUnless(sys.platform == 'linux', "needs clone() and memfd")
class CommandTests(CommandCase):
    """The program goes on, and the command says why in a line."""

    def launch(self, code):
        self.program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=5', '-X',
             'tracemalloc_control=c.sock', '-c', HELD + code
             + "print('ready', flush=True); input()\n"
             "print(len(KEPT)); ended = True"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.program.communicate)
        self.addCleanup(self.program.kill)
        self.assertEqual(self.program.stdout.readline(), 'ready\n')

    def check(self, status, errors, reason):
        self.assertEqual(status, 1, errors)
        self.assertRegex(errors, rf'\A.*c\.sock: {reason}\n\Z')
        self.assertEqual(os.listdir('.'), ['c.sock'])

    def end(self):
        output, _ = self.program.communicate('\n')
        self.assertEqual((self.program.returncode, output), (0, '10\n'))

    def test_killed(self):
        self.launch(KILL)
        for i in range(200):
            status, _, errors = self.call('snapshot', 'c.sock', '--references',
                                          '-fo', 'a.tracemalloc')
            if status:
                break
            os.unlink('a.tracemalloc')
        self.check(status, errors, 'the child that looks at the references '
                   'was killed by signal 9; add --pause, which needs no child')
        self.end()

    def test_full(self):
        """No file may be larger, not even the one in memory."""
        self.launch('import resource\n'
                    'resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99))\n')
        for options, reason in (
                ([], 'no child can record the references: File too large; '
                     'add --pause, which needs no child'),
                (['--pause'], '.*a.tracemalloc: File too large')):
            status, _, errors = self.call('snapshot', 'c.sock', '--references',
                                          '-fo', 'a.tracemalloc', *options)
            self.check(status, errors, reason)
        self.end()


if __name__ == '__main__':
    unittest.main()
