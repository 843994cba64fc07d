"""--fail-above: exit status, and the last line that a log of CI shows."""

import os
import re
import subprocess
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command

PROGRAM = '''\
import sys
megabytes = int(sys.argv[1])
def keep(): return [bytes(1 << 20) for _ in range(megabytes)]
def high(): return len(bytes((megabytes + 10) << 20))
high()
kept = keep()
'''


class ThresholdTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        for name, megabytes in ('old', '10'), ('new', '12'):
            command('run', '-q', '-o', os.path.join(cls.source, name), path,
                    megabytes, check=True)

    def judge(self, *args):
        """Return (status, last line), of a file for both outputs as in CI."""
        with open('log', 'w+') as log:
            done = command(*args, stdout=log, stderr=subprocess.STDOUT,
                           capture_output=False)
            log.seek(0)
            return done.returncode, log.read().splitlines()[-1]

    def diff(self, threshold, *args, names=('old', 'new')):
        return self.judge('diff', *(os.path.join(self.source, name)
                                    for name in names),
                          *args, '--fail-above', threshold)

    def sums(self, order):
        return [sum(getattr(stat, order) for stat in
                    tracemalloc.Snapshot.load(os.path.join(self.source, name))
                    .statistics('filename', order=order))
                for name in ('old', 'new')]

    def test_growth(self):
        old, new = self.sums('size')
        exact = new - old
        for threshold, status in (('1MiB', 3), ('3MiB', 0), ('5%', 3),
                                  ('50%', 0), ('0', 3), (str(exact), 0),
                                  (str(exact - 1), 3), ('19.5%', 3),
                                  ('20.5%', 0)):
            with self.subTest(threshold):
                actual, line = self.diff(threshold)
                self.assertEqual(actual, status, line)
                verdict, word = (('FAIL', 'more than') if status else
                                 ('OK', 'within'))
                self.assertRegex(
                    line, rf'^pytracemalloc: {verdict}: live memory: 12\.\d '
                    rf'MiB \(\+2\.0 MiB, \+(19|20)\.\d%\), {word} '
                    rf'{re.escape(threshold)}$')

    def test_what_shrinks_and_stays(self):
        for names in (('new', 'old'), ('new', 'new')):
            for threshold in '0%', '0':
                status, line = self.diff(threshold, names=names)
                self.assertEqual((status, line[:18]),
                                 (0, 'pytracemalloc: OK:'))

    def test_each_value(self):
        for what, order, title in (
                ('peak', 'peak_size', 'memory at the peak'),
                ('total', 'total_size', 'memory ever allocated'),
                ('count', 'count', 'live blocks')):
            old, new = self.sums(order)
            for limit, status in (new - old - 1, 3), (new - old, 0):
                actual, line = self.diff(str(limit), '--what', what)
                self.assertEqual(actual, status, line)
                self.assertIn(f': {title}: ', line)
        # The peak of the sum is that of the whole program.
        snapshot = tracemalloc.Snapshot.load(os.path.join(self.source, 'new'))
        self.assertEqual(self.sums('peak_size')[1], snapshot.traced_memory[1])

    def test_filters(self):
        # The line grows, the rest of the file does not.
        for status, *lines in (3,), (0, '--exclude', '*/app.py:3'):
            actual, line = self.diff('0', '--include', '*/app.py', *lines)
            self.assertEqual(actual, status, line)
            self.assertIn('live memory', line)
        status, line = self.diff('99%', '--include', '*/app.py:3')
        self.assertRegex(line, r'OK: live memory: 12\.0 MiB \(\+2\.0 MiB, '
                               r'\+20\.0%\), within 99%$')

    def test_from_nothing(self):
        self.write('none.py', '')
        command('run', '-q', '-o', 'none', 'none.py', check=True)
        status, line = self.judge(
            'diff', 'none', os.path.join(self.source, 'new'), '--include',
            '*/app.py', '--fail-above', '500%')
        self.assertEqual(status, 3)
        self.assertIn(', from nothing), more than 500%', line)

    def test_report(self):
        path = os.path.join(self.source, 'new')
        for threshold, what, status, said in (
                ('11MiB', 'size', 3, r'FAIL: live memory: 12\.\d MiB, more '
                                     r'than 11MiB$'),
                ('20 MiB', 'size', 0, r'OK: live memory: 12\.\d MiB, within '
                                      r'20 MiB$'),
                ('20 MiB', 'peak', 3, 'FAIL: memory at the peak: 2[23]'),
                ('10', 'count', 3, r'FAIL: live blocks: [\d,]+, more than 10'
                                   '$')):
            with self.subTest(threshold, what=what):
                actual, line = self.judge('report', path, '--what', what,
                                          '--fail-above', threshold)
                self.assertEqual(actual, status)
                self.assertRegex(line, said)

    def test_the_report_is_written(self):
        for name in 'a.html', 'a.json', 'a.csv':
            status, _ = self.diff('1%', '-o', name)
            self.assertEqual(status, 3)
            self.assertGreater(os.path.getsize(name), 100)
        # Standard output has the report alone.
        done = command('report', os.path.join(self.source, 'new'), '--json',
                       '--fail-above', '1')
        self.assertEqual((done.returncode, done.stderr.count('\n')), (3, 1))
        self.assertTrue(done.stdout.endswith('}\n'))

    def test_refused(self):
        old, new = (os.path.join(self.source, name) for name in ('old', 'new'))
        for text, said in (
                ('', 'give a share, such as 5%, or a size, such as 1MiB'),
                ('%', 'give a share'), ('-1%', 'give a share'),
                ('nan%', 'give a share'), ('inf%', 'give a share'),
                ('-3', 'give a share'), ('five', 'give a share'),
                ('5 stones', 'give a share')):
            with self.subTest(text):
                self.refused(2, f'--fail-above {re.escape(text)}: {said}',
                             'diff', old, new, f'--fail-above={text}')
        for args, said in (
                (['diff', old, new, '--cumulative'], 'leave out --by holder'),
                (['diff', old, new, '--by', 'holder'], 'leave out'),
                (['report', new, '--what', 'retained'], 'leave out'),
                (['diff', old, new, '--what', 'count'], 'give a number'),
                (['report', old, new], 'applies to one snapshot; compare')):
            self.refused(2, said, *args, '--fail-above', '1MiB')
        self.refused(2, '--fail-above 5%: one snapshot has nothing to compare '
                        'with', 'report', new, '--fail-above', '5%')


if __name__ == '__main__':
    unittest.main()
