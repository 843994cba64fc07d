"""pytracemalloc why, report --by holder and --what retained."""

import gc
import json
import os
import sys
import time
import tracemalloc
import types
import unittest

from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.snapshot_sections import join, sections

SHOP = '''\
class Catalogue:
    def __init__(self):
        self.listeners = []

CATALOGUE = Catalogue()

class Basket:
    def __init__(self):
        self.items = [None] * 300
        CATALOGUE.listeners.append(self.refresh)

    def refresh(self):
        pass

def fill(count):
    for number in range(count):
        Basket()

fill(1000)
'''
PATH = ('    shop.CATALOGUE.listeners[...] -> bound method Basket.refresh -> '
        'shop.Basket (1,000)')


def take(path, program=SHOP, filename='/srv/shop.py', references=True):
    """Write a snapshot with a module `shop` that has run."""
    with Tracing(5):
        shop = types.ModuleType('shop')
        sys.modules['shop'] = shop
        try:
            exec(compile(program, filename, 'exec'), shop.__dict__)
            gc.collect()          # modules of before, without the GIL
            tracemalloc.take_snapshot(references=references).dump(path)
        finally:
            del sys.modules['shop']
            shop.__dict__.clear()


class WhyTest(CommandCase):
    maxDiff = None

    def setUp(self):
        super().setUp()
        take('shop.tracemalloc')

    def test_line(self):
        output = self.ok('why', 'shop.tracemalloc', 'shop.py:17')
        first, second = output.splitlines()
        self.assertRegex(first, r'^1,000 shop\.Basket \(\d+(\.\d)? KiB, with '
                                r'what only they hold 2\.\d MiB\) are held '
                                r'by:$')
        self.assertEqual(second, PATH)
        for what in '/srv/shop.py:17', '*/shop.py:17', 'Basket', 'shop.Basket':
            with self.subTest(what):
                self.assertEqual(self.ok('why', 'shop.tracemalloc', what),
                                 output)

    def test_all_frames(self):
        output = self.ok('why', 'shop.tracemalloc', 'shop.py:19',
                         '--all-frames', '--most', '1')
        self.assertIn('list', output)
        self.assertIn('1,000 shop.Basket', output)

    def test_address(self):
        document = json.loads(self.ok('why', 'shop.tracemalloc',
                                      'shop.Catalogue', '--json'))
        self.assertEqual(document['count'], 1)
        snapshot = tracemalloc.Snapshot.load('shop.tracemalloc')
        self.refused(1, 'no traced object is at 0x1$', 'why',
                     'shop.tracemalloc', '0x1')
        stat, = [stat for stat in snapshot.statistics('address')
                 if stat.traceback[-1].lineno == 5]
        self.assertIn('shop.CATALOGUE -> shop.Catalogue (1)',
                      self.ok('why', 'shop.tracemalloc', f'{stat.key:#x}'))

    def test_json(self):
        document = json.loads(self.ok('why', 'shop.tracemalloc', 'Basket',
                                      '--json'))
        path, = document.pop('paths')
        retained = document.pop('retained')
        self.assertGreater(retained, 2_000_000)
        size = document.pop('size')
        self.assertEqual(document, {
            'format': 'pytracemalloc why', 'version': 1, 'what': 'Basket',
            'count': 1000, 'unreached': 0, 'blocks': 0, 'block_size': 0,
            'shapes': 1, 'types': [{'type': 'shop.Basket', 'count': 1000,
                                    'size': size}]})
        self.assertEqual((path['count'], path['behind'], path['size']),
                         (1000, 0, size))
        self.assertEqual(f'    {path["text"]} (1,000)', PATH)
        self.assertEqual(path['steps'][-1],
                         {'name': '__self__', 'what': 'shop.Basket',
                          'filename': '/srv/shop.py', 'lineno': 17})

    def test_refused(self):
        for status, pattern, *args in (
                (1, 'nothing that was allocated at shop.py:2700 is live$',
                 'shop.py:2700'),
                (1, "no live object has the type 'Trolley'; for a line",
                 'Trolley'),
                (2, "bad address '0xyz': give hex digits", '0xyz'),
                (2, "bad filter 'shop.py:x'", 'shop.py:x'),
                (2, 'must be a positive integer', 'Basket', '--most', '0')):
            with self.subTest(args):
                self.refused(status, pattern, 'why', 'shop.tracemalloc',
                             *args)

    def test_without_references(self):
        take('plain.tracemalloc', references=False)
        for args in (('why', 'plain.tracemalloc', 'Basket'),
                     ('report', 'plain.tracemalloc', '--by', 'holder'),
                     ('report', 'plain.tracemalloc', '--what', 'retained')):
            with self.subTest(args):
                self.refused(1, r'plain.tracemalloc: the snapshot has no '
                                r'references: .*run --references', *args)

    def test_foreign_text(self):
        take('evil.tracemalloc',
             SHOP + "Catalogue.__qualname__ = 'Catalogue\\x1b[2J'\n"
                    "globals()['\\x1b[1m'] = [0] * 9999\n",
             filename='/srv/\x1b]0;x\x07.py')
        output = self.ok('why', 'evil.tracemalloc', '*:5')
        output += self.ok('report', 'evil.tracemalloc', '--by', 'holder')
        output += self.ok('report', 'evil.tracemalloc', '--what', 'retained')
        self.assertNotIn('\x1b', output)
        self.assertIn(r'\x1b', output)

    def test_time(self):
        # From file to text; the machine may be busy.
        take('big.tracemalloc', SHOP.replace('1000', '40_000')
             .replace('[None] * 300', '[{}, [], str(id(self))]'))
        start = time.process_time()
        output = self.ok('why', 'big.tracemalloc', 'Basket')
        self.assertIn('40,000 shop.Basket', output)
        self.assertLess(time.process_time() - start, 4)


class ReportTest(CommandCase):
    maxDiff = None

    def setUp(self):
        super().setUp()
        take('shop.tracemalloc')

    def test_tree(self):
        lines = self.ok('report', 'shop.tracemalloc', '--by', 'holder',
                        '--top', '6').splitlines()
        self.assertEqual(lines[0], 'shop.tracemalloc')
        self.assertEqual(lines[2],
                         'Holders by the memory that would go with them:')
        self.assertEqual([line[33:] for line in lines[4:-1]], [
            'module shop',
            '  .CATALOGUE: shop.Catalogue (/srv/shop.py:5)',
            '    .listeners: list (/srv/shop.py:3)',
            '      [...]: bound method Basket.refresh (/srv/shop.py:10)',
            '        __self__: shop.Basket (/srv/shop.py:17)',
            '          .items: list (/srv/shop.py:9)'])
        self.assertRegex(lines[-1], r'^ *2\.\d MiB +total$')
        self.assertRegex(lines[-2], r'^ +2\.\d MiB +2\.\d MiB +1,000  ')

    def test_json(self):
        document = json.loads(self.ok('report', 'shop.tracemalloc', '--by',
                                      'holder', '--format', 'json'))
        rows = document['holders']
        self.assertEqual(rows[0]['what'], 'everything')
        self.assertEqual(rows[1] | {'retained': 0, 'size': 0}, {
            'parent': 0, 'name': '', 'what': 'module shop', 'type': 'module',
            'filename': None, 'lineno': None, 'repeats': False, 'count': 1,
            'size': 0, 'retained': 0})
        for row in rows[1:]:
            self.assertLessEqual(row['retained'],
                                 rows[row['parent']]['retained'])

    def test_retained(self):
        for key, name in (('type', 'shop.Basket'), ('line', '/srv/shop.py:17'),
                          ('file', '/srv/shop.py'), ('module', 'shop'),
                          ('function', '/srv/shop.py:15 in fill'),
                          ('type+line', 'shop.Basket:/srv/shop.py:17')):
            with self.subTest(key):
                output = self.ok('report', 'shop.tracemalloc', '--by', key,
                                 '--what', 'retained', '--top', '50')
                line, = [line for line in output.splitlines()[4:]
                         if line[33:].split(' in fill')[0] ==
                         name.split(' in fill')[0]]
                self.assertRegex(line, r'^ +2\.\d MiB ')
                self.ok('report', 'shop.tracemalloc', '--by', key, '--what',
                        'retained', '-o', 'out.json', '-f')
                with open('out.json') as file:
                    document = json.load(file)
                self.assertEqual(document['by'], key)
                self.assertGreater(document['retained'][0]['retained'],
                                   2_000_000)

    def test_refused(self):
        for pattern, *args in (
                ('--by holder is written as text, json or html, not csv',
                 '--by',
                 'holder', '--format', 'csv'),
                ('html shows who holds what is live; leave out --what and '
                 '--cumulative', '--by', 'holder', '--format', 'html',
                 '--what', 'peak'),
                ('--what retained is written as text or json, not html',
                 '--what',
                 'retained', '--format', 'html'),
                ('--by holder shows what is retained; leave out --what peak',
                 '--by', 'holder', '--what', 'peak'),
                ('--what retained works only with --by line, file',
                 '--by', 'domain',
                 '--what', 'retained'),
                ('does not work with --cumulative; leave it out',
                 '--by', 'holder',
                 '--cumulative')):
            with self.subTest(args):
                self.refused(2, pattern, 'report', 'shop.tracemalloc', *args)
        self.assertEqual(os.listdir(), ['shop.tracemalloc'])

    def test_page(self):
        self.assertEqual(self.ok('report', 'shop.tracemalloc', '--by',
                                 'holder', '--format', 'html'),
                         'Wrote shop.html\n')
        with open('shop.html', encoding='utf-8') as file:
            self.assertIn('"measure":"held"', file.read())
        take('more.tracemalloc', SHOP.replace('1000', '1500'))
        self.ok('diff', 'shop.tracemalloc', 'more.tracemalloc', '--by',
                'holder', '-o', 'grown.html')
        with open('grown.html', encoding='utf-8') as file:
            self.assertIn('"measure":"held"', file.read())
        take('plain.tracemalloc', references=False)
        for args in (('report', 'plain.tracemalloc'),
                     ('diff', 'plain.tracemalloc', 'more.tracemalloc'),
                     ('diff', 'shop.tracemalloc', 'plain.tracemalloc')):
            self.refused(1, r'^pytracemalloc: .*plain.tracemalloc: the '
                            r'snapshot has no references', *args, '--by',
                         'holder', '-o', 'no.html')
        self.assertFalse(os.path.exists('no.html'))

    def test_damaged_references(self):
        with open('shop.tracemalloc', 'rb') as file:
            found = dict(sections(file.read()))
        found[b'HEAP'] += b'x'
        with open('bad.tracemalloc', 'wb') as file:
            file.write(join(found.items()))
        for args in (('why', 'bad.tracemalloc', 'Basket'),
                     ('diff', 'shop.tracemalloc', 'bad.tracemalloc'),
                     *(('report', 'bad.tracemalloc', *more) for more in (
                         ('--by', 'holder'), ('--what', 'retained'),
                         ('-o', 'a.html'), ('-o', 'a.dot'),
                         ('-o', 'a.heapsnapshot')))):
            with self.subTest(args):
                self.refused(1, 'bad.tracemalloc: not a whole snapshot: '
                                'section is longer than its records at '
                                r'offset \d+; copy it again or take a new '
                                'one$', *args)
        # What does not look at them is right.
        self.assertEqual(
            self.ok('report', 'bad.tracemalloc').replace('bad', 'shop'),
            self.ok('report', 'shop.tracemalloc'))
        self.assertEqual(sorted(os.listdir()),
                         ['bad.tracemalloc', 'shop.tracemalloc'])

    def test_difference_of_classes_of_one_name(self):
        program = '''\
def make(size):
    class Row:
        pass
    row = Row()
    row.data = bytes(size)
    return row
ROWS = [make(size) for size in (9000, 8000, 7000)]
'''
        take('old.tracemalloc', program)
        take('new.tracemalloc', program.replace('8000', '8800'))
        rows = json.loads(self.ok(
            'diff', 'old.tracemalloc', 'new.tracemalloc', '--by', 'holder',
            '--format', 'json'))['holders']
        self.assertEqual([row['retained_diff'] for row in rows
                          if row['name'] == '.data'], [800, 0, 0])

    def test_difference(self):
        take('more.tracemalloc', SHOP.replace('1000', '1500').replace(
            'CATALOGUE = Catalogue()', 'CATALOGUE = Catalogue(); OTHER = [0] * '
            '9999'))
        lines = self.ok('diff', 'shop.tracemalloc', 'more.tracemalloc',
                        '--by', 'holder', '--top', '7').splitlines()
        self.assertEqual(lines[0],
                         'more.tracemalloc compared to shop.tracemalloc')
        rows = [(line[22:32].strip(), line[33:]) for line in lines[4:-1]]
        self.assertEqual(rows, [
            ('+0', 'module shop'),
            ('+0', '  .CATALOGUE: shop.Catalogue (/srv/shop.py:5)'),
            ('+0', '    .listeners: list (/srv/shop.py:3)'),
            ('+500', '      [...]: bound method Basket.refresh '
                     '(/srv/shop.py:10)'),
            ('+500', '        __self__: shop.Basket (/srv/shop.py:17)'),
            ('+500', '          .items: list (/srv/shop.py:9)'),
            ('+1', '  .OTHER: list (/srv/shop.py:5)')])
        back = json.loads(self.ok('diff', 'more.tracemalloc',
                                  'shop.tracemalloc', '--by', 'holder',
                                  '--format', 'json'))['holders']
        gone, = [row for row in back if row['name'] == '.OTHER']
        self.assertEqual((gone['retained'], gone['count_diff']), (0, -1))
        self.assertLess(gone['retained_diff'], -79_000)
        for row in json.loads(self.ok(
                'diff', 'shop.tracemalloc', 'shop.tracemalloc', '--by',
                'holder', '--format', 'json'))['holders']:
            self.assertEqual((row['retained_diff'], row['count_diff']),
                             (0, 0))

    def test_filters(self):
        output = self.ok('report', 'shop.tracemalloc', '--by', 'holder',
                         '--exclude', '*:9')
        self.assertRegex(output.splitlines()[-1], r' KiB +total$')


if __name__ == '__main__':
    unittest.main()
