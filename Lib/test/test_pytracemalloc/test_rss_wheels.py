"""Resident memory of a process with allocators, threads and mappings that
wheels bring along."""
import json
import subprocess
import unittest

from test.test_pytracemalloc.fetched import environment
from test.test_pytracemalloc.helpers import SANITIZED

PROGRAM = '''
import json, threading, tracemalloc
import numpy, polars, pyarrow
from lxml import etree
xml = '<r>' + '<a><b/></a>' * 100_000 + '</r>'
keep = [numpy.ones(3_000_000), pyarrow.array(range(2_000_000)),
        polars.DataFrame({'a': range(2_000_000)}), etree.fromstring(xml),
        {i: str(i) for i in range(300_000)}]
gone = [etree.fromstring(xml) for i in range(2)]
del gone
wait = threading.Event()
for i in range(4):
    threading.Thread(target=wait.wait, daemon=True).start()
rss = tracemalloc.rss()
print(json.dumps([rss.rows, rss.total, rss.unexplained, rss.notes]))
'''


@unittest.skipIf(SANITIZED, 'wheels are not built with a sanitizer')
class WheelTests(unittest.TestCase):

    def test_nearly_all_is_explained(self):
        python = environment('rss') / 'bin' / 'python'
        for options in ((), ('-Xtracemalloc=1',),
                        ('-Xtracemalloc=25', '-Xtracemalloc_native=1')):
            with self.subTest(options=options):
                done = subprocess.run([python, *options, '-c', PROGRAM],
                                      capture_output=True, text=True,
                                      check=True)
                rows, total, unexplained, notes = json.loads(done.stdout)
                self.assertEqual(sum(row[4] for row in rows), total)
                self.assertLessEqual(unexplained, total / 200)
                self.assertGreater(total, 100 << 20)
                mapped = {name.rpartition('/')[2] for kind, name, *rest in rows
                          if kind == 'mapping'}
                self.assertTrue(any(name.startswith('libarrow.so')
                                    for name in mapped), mapped)
                self.assertTrue(any('polars' in name for name in mapped),
                                mapped)


if __name__ == '__main__':
    unittest.main()
