"""The page on the series of CPython says of this one what is true."""
import os
import pathlib
import re
import sys
import unittest

import tracemalloc
from test.test_pytracemalloc.helpers import FLAVOUR, FREE_THREADED

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
PAGE = TOP / 'Doc' / 'explanation' / 'series.rst'
SERIES = '{}.{}'.format(*sys.version_info)


@unittest.skipUnless(PAGE.is_file(), 'needs the repository')
class SeriesTests(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.text = PAGE.read_text(encoding='utf-8')
        table = cls.text.partition('list-table::')[2].split('\n\n')[1]
        rows = [[' '.join(cell.split()) for cell in row.split('\n     -')]
                for row in ('\n' + table).split('\n   * -')[1:]]
        cls.series = rows[0][1:]
        cls.rows = {row[0]: row[1:] for row in rows[1:]}

    def cell(self, title):
        return self.rows[title][self.series.index(SERIES)]

    def test_series(self):
        self.assertEqual(self.series, sorted(
            path.parent.name for path in TOP.glob('patches/*/series')))
        for title, cells in self.rows.items():
            self.assertEqual(len(cells), len(self.series), title)

    def test_releases(self):
        for series in self.series:
            lock = TOP / 'patches' / series / 'upstream.lock'
            versions = re.findall(r'(?m)^(\d\S+) ', lock.read_text())
            row = re.search(rf'(?m)^{re.escape(series)}  +(.+)$', self.text)
            self.assertEqual(row[1].replace(',', '').split(), versions)

    def test_free_lists(self):
        title, = (title for title in self.rows if 'Free lists' in title)
        cells = self.rows[title][:self.series.index(SERIES) + 1]
        self.assertEqual(re.findall('``(\\w+)``', ' '.join(cells)),
                         [*tracemalloc.get_freelist_stats()])

    def test_integers(self):
        lowest, highest = map(int, re.findall(
            r'-?\d+', self.cell('Integers that are not allocated')))

        def is_kept(number):
            return int(str(number)) is int(str(number))

        self.assertTrue(is_kept(lowest) and is_kept(highest))
        self.assertFalse(is_kept(lowest - 1) or is_kept(highest + 1))

    @unittest.skipIf(hasattr(sys, 'gettotalrefcount'),
                     'objects of a debug build are larger')
    def test_sizes(self):
        for title, value in [
                ('Size of a function', lambda: None),
                ('Size of an empty generator', (i for i in ())),
                ('Size of a tuple, without its items', ())]:
            with self.subTest(title):
                self.assertEqual(self.cell(title),
                                 f'{sys.getsizeof(value)} bytes')

    @unittest.skipIf(hasattr(sys, 'gettotalrefcount') or FLAVOUR == 'ignore',
                     'blocks are larger, or not seen')
    def test_bytearray(self):
        tracemalloc.stop()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        made = bytearray(100)
        line = tracemalloc.get_object_traceback(made)[-1].lineno
        snapshot = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, __file__, line)])
        sizes = {stat.key: stat.size for stat in snapshot.statistics('type')}
        cell = self.cell('``bytearray(100)``')
        size, buffer = map(int, re.match(
            r'(\d+) bytes, and a buffer of (\d+)', cell).groups())
        if FREE_THREADED:
            # As the page on these builds says, of each object.
            text = (PAGE.parent / 'free_threaded.rst').read_text()
            larger = int(re.search(r'are (\d+) bytes larger', text)[1])
            size += larger
            buffer += larger * ('bytes object' in cell)
        self.assertEqual((size, buffer), (sizes['bytearray'],
                                          sizes['<bytearray buffer>']))


if __name__ == '__main__':
    unittest.main()
