"""References looked at by a child process, while the program goes on."""

import subprocess
import sys
import tracemalloc
import unittest

HELD = """
import tracemalloc
class Held: pass
KEPT = [Held() for i in range(10)]
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
for pause in (True, False):
    why = tracemalloc.take_snapshot(references=True, pause=pause).why(
        type='Held')
    paths.append((why.count, why.size, [str(path) for path in why.paths]))
assert paths[0] == paths[1], paths
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
tracemalloc.take_snapshot(references=True)
""")
        self.assertRegex(out, r'no child can be made .*: Too many open files')

    def test_killed_child(self):
        """The child is the one process whose parent this is."""
        out = self.run_program("""
import os, signal, threading
KEPT.extend({i: [i]} for i in range(200_000))
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
                except OSError:
                    pass
thread = threading.Thread(target=kill)
thread.start()
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


if __name__ == '__main__':
    unittest.main()
