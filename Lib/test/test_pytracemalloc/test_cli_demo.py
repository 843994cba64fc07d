"""pytracemalloc demo: its commands find the leak, and its page shows it."""

import os
import re
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command


class DemoTest(CommandCase):
    def test_it_finds_the_leak(self):
        # What is inherited is not the shop's.
        done = command('demo', '-o', 'shop', '--requests', '120',
                       env=os.environ | {'PYTRACEMALLOC_CONTROL': 'o.sock'})
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        with open('shop/shop.py') as file:
            lines = file.read().splitlines()
        [leak] = [number for number, line in enumerate(lines, 1)
                  if 'self.recommended = ' in line]
        place = f'shop.py:{leak}'
        # It grows most, and suspicion falls on it.
        rows = done.stdout.partition('change   count\n')[2].splitlines()
        self.assertRegex(rows[0], rf'{place} in Session\.__init__$')
        self.assertIn(f'$ pytracemalloc why later.tracemalloc {place} '
                      f'--most 1\n', done.stdout)
        self.assertRegex(done.stdout,
                         r'\.by_token\[\.\.\.\]\.recommended -> bytearray')
        self.assertTrue(done.stdout.endswith(
            f'\nThe page: {os.path.abspath("shop/shop.html")}\n'))
        with open('shop/shop.html', encoding='utf-8') as file:
            self.assertIn('shop.py', file.read())
        later = tracemalloc.Snapshot.load('shop/later.tracemalloc')
        self.assertTrue(later.has_references)
        self.assertEqual(later.traceback_limit, 65535)
        # The socket has gone, and the shop with it.
        self.assertEqual(sorted(os.listdir('shop')), [
            'later.tracemalloc', 'shop.html', 'shop.py', 'warm.tracemalloc'])

    def test_what_is_shown_can_be_typed(self):
        done = command('demo', '--requests', '20')
        shown = re.findall(r'(?m)^\$ (.*)$', done.stdout)
        self.assertEqual([line.split()[1] for line in shown[1:]],
                         ['snapshot', 'snapshot', 'diff', 'why', 'diff'])
        for line in shown[3:]:
            again = command(*line.split()[1:], cwd='pytracemalloc-demo')
            self.assertEqual((again.returncode, again.stderr), (0, ''))
            self.assertIn(f'$ {line}\n{again.stdout}', done.stdout)

    def test_refusals(self):
        os.mkdir('shop')
        self.write('shop/shop.py', 'mine')
        self.refused(1, r'shop/shop\.py exists; overwrite it with -f', 'demo',
                     '-o', 'shop')
        with open('shop/shop.py') as file:
            self.assertEqual(file.read(), 'mine')
        self.write('file', '')
        self.refused(1, 'file: File exists; choose another place with -o',
                     'demo', '-o', 'file')
        self.refused(2, 'must be a positive integer', 'demo', '--requests',
                     '0')
        done = command('demo', '-f', '-o', 'shop', '--requests', '20')
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
    unittest.main()
