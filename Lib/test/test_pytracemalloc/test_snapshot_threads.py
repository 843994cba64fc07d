"""Snapshots beside threads that go on: taken, written, looked at."""

import sys
import unittest
from test.support import check_sanitizer
from test.support.script_helper import assert_python_ok


class TakingTests(unittest.TestCase):

    def test_many_threads_while_taking(self):
        # On a busy machine, a round takes 20 seconds under ThreadSanitizer.
        rounds = 6 if check_sanitizer(thread=True) else 30
        assert_python_ok('-X', 'tracemalloc=5', '-c', """if 1:
            import sys, threading, tracemalloc
            stop = False
            def work():
                while not stop:
                    [bytearray(i * 10) for i in range(200)]
            threads = [threading.Thread(target=work) for i in range(4)]
            for thread in threads: thread.start()
            for i in range(int(sys.argv[1])):
                s = tracemalloc.take_snapshot()
                assert sum(t.size for t in s.traces) == s.traced_memory[0]
            stop = True
            for thread in threads: thread.join()
            """, str(rounds))

    def test_threads_run_beside_the_moment(self):
        """Nothing but take_snapshot() lets the other thread run."""
        assert_python_ok('-X', 'tracemalloc=5', '-c', """if 1:
            import sys, threading, time, tracemalloc
            stop, rounds = False, 0
            def work():
                global rounds
                while not stop:
                    time.sleep(0.0001)
                    rounds += 1
            keep = [{i: [i]} for i in range(20_000)]
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            sys.setswitchinterval(1000)
            before, end = rounds, time.monotonic() + 60
            while rounds == before and time.monotonic() < end:
                tracemalloc.take_snapshot()
            after = rounds
            stop = True
            thread.join()
            assert after > before
            """)


# A thread ticks while the main thread does something.
TICK = """if 1:
    import os, sys, tempfile, threading, time, tracemalloc
    longest, stop = 0, False
    def work():
        global longest
        last = time.perf_counter()
        while not stop:
            time.sleep(0.0005)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now
    thread = threading.Thread(target=work, daemon=True)
"""
# argv is a question.  Sums are small beside the blocks, so nothing waits for as
# long as these take.
QUESTION = TICK + """
    def make(n):
        return [{i: [i]} for i in range(n)]
    def deep(n):
        return make(60_000) if n == 0 else deep(n - 1)
    keep = make(60_000), deep(3), deep(8)
    ask = eval('lambda snapshot, path: ' + sys.argv[1])
    thread.start()
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        while len(shares) < 8 and min(shares, default=1) > 0.25:
            snapshot = tracemalloc.take_snapshot()
            time.sleep(0.01)
            longest, start = 0, time.perf_counter()
            ask(snapshot, os.path.join(folder, 'file'))
            shares.append(longest / (time.perf_counter() - start))
    stop = True
    thread.join()
    assert min(shares) <= 0.25, shares
    """


# A child copies blocks and references; a plain snapshot copies the blocks.
CHILD = TICK + """
    def pause(**kwargs):
        global longest
        time.sleep(0.01)
        longest = 0
        tracemalloc.take_snapshot(**kwargs)
        time.sleep(0.01)
        return longest
    keep = [{i: [i]} for i in range(400_000)]
    thread.start()
    plain, child = [], []
    while len(plain) < 3 or (len(plain) < 12
                             and min(child) >= 0.8 * min(plain)):
        plain.append(pause())
        child.append(pause(references=True, pause=False))
    stop = True
    thread.join()
    assert min(child) < 0.8 * min(plain), (child, plain)
    """


@unittest.skipUnless(sys.platform == 'linux', "needs clone() and memfd")
class ChildTests(unittest.TestCase):
    def test_waits_only_for_the_fork(self):
        assert_python_ok('-X', 'tracemalloc=1', '-c', CHILD)


class AskingTests(unittest.TestCase):
    """Other threads go on while blocks are made and looked at, which is most
    of the time of the first question to a snapshot; a busy machine gets a few
    attempts."""

    def check(self, question):
        for nframe in ('1', '25'):          # paths are cut, or are not
            with self.subTest(nframe=nframe):
                assert_python_ok('-X', f'tracemalloc={nframe}', '-c',
                                 QUESTION, question)

    def test_dump(self):
        self.check('snapshot.dump(path)')

    def test_arenas(self):
        self.check('snapshot.arena_use')

    def test_arenas_of_a_view(self):
        self.check('snapshot.fold_imports().arena_use')

    def test_arenas_of_a_view_of_a_view(self):
        self.check('snapshot.fold_imports().my_code().arena_use')

    def test_types(self):
        self.check('snapshot.statistics("type")')

    def test_types_of_filtered_blocks(self):
        self.check('snapshot.filter_traces([tracemalloc.Filter('
                   'False, "nowhere")]).statistics("type+lineno")')


DEEP = '''
def deep(n):
    return deep(n - 1) if n else [{i: [i]} for i in range(20_000)]
keep = deep(8), deep(3)
'''


class WritingTests(unittest.TestCase):

    def test_many_threads_write_and_look(self):
        """What one thread writes, another one may unpack and cut."""
        for nframe in (2, 100):
            with self.subTest(nframe=nframe):
                assert_python_ok('-X', f'tracemalloc={nframe}', '-c',
                                 DEEP + """if 1:
                    import os, tempfile, threading, tracemalloc
                    def sums(snapshot):
                        return [(s.traceback, s.size, s.count) for s in
                                snapshot.statistics('traceback')]
                    def write(snapshot, path, results):
                        snapshot.dump(path)
                        loaded = tracemalloc.Snapshot.load(path)
                        results.append((sums(loaded), sum(
                            t.size for t in loaded.traces)))
                    def look(snapshot, results):
                        results.append((sums(snapshot), sum(
                            t.size for t in snapshot.traces)))
                    with tempfile.TemporaryDirectory() as folder:
                        for i in range(6):
                            snapshot = tracemalloc.take_snapshot()
                            results = []
                            threads = [threading.Thread(
                                target=write, args=(snapshot, os.path.join(
                                    folder, str(k)), results))
                                for k in range(3)]
                            threads.insert(i % 4, threading.Thread(
                                target=look, args=(snapshot, results)))
                            for thread in threads:
                                thread.start()
                            for thread in threads:
                                thread.join()
                            assert len(results) == 4, len(results)
                            for found in results:
                                assert found == results[0]
                    """)

    def test_many_threads_ask(self):
        """Each makes what it needs of blocks and paths, and all answers are
        those of one thread."""
        for nframe in (2, 100):
            with self.subTest(nframe=nframe):
                assert_python_ok('-X', f'tracemalloc={nframe}', '-c',
                                 DEEP + """if 1:
                    import threading, tracemalloc
                    some = [tracemalloc.Filter(False, 'nowhere')]
                    def plain(stats):
                        return [(s.key, s.traceback, s.size, s.count)
                                for s in stats]
                    questions = [
                        lambda s, view: s.arena_use,
                        lambda s, view: view.arena_use,
                        lambda s, view: plain(s.statistics('type')),
                        lambda s, view: plain(view.statistics('type+lineno')),
                        lambda s, view: plain(s.statistics('traceback')),
                        lambda s, view: plain(s.filter_traces(
                            some).statistics('type')),
                        lambda s, view: view.fold_imports().arena_use,
                        lambda s, view: sum(t.size for t in view.traces)]
                    for i in range(6):
                        snapshot = tracemalloc.take_snapshot()
                        view = snapshot.my_code()
                        found = {}
                        def ask(n):
                            found[n] = questions[n](snapshot, view)
                        threads = [threading.Thread(
                            target=ask, args=((n + i) % len(questions),))
                            for n in range(len(questions))]
                        for thread in threads:
                            thread.start()
                        for thread in threads:
                            thread.join()
                        assert len(found) == len(questions), found.keys()
                        for n, question in enumerate(questions):
                            assert question(snapshot, view) == found[n], n
                    """)

    def test_written_and_then_used(self):
        """The snapshot is as it was, and gives the same file again."""
        assert_python_ok('-X', 'tracemalloc=3', '-c', """if 1:
            import os, tempfile, tracemalloc
            keep = [{i: [i]} for i in range(5000)]
            snapshot = tracemalloc.take_snapshot()
            with tempfile.TemporaryDirectory() as folder:
                def dump():
                    path = os.path.join(folder, 'file')
                    snapshot.dump(path)
                    with open(path, 'rb') as file:
                        return file.read()
                first = dump()
                assert dump() == first
                assert sum(t.size for t in snapshot.traces) \
                    == snapshot.traced_memory[0]
                assert dump() == first
            """)


if __name__ == "__main__":
    unittest.main()
