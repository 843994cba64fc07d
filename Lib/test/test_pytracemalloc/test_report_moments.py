"""Reports and summaries show the next highest moments, if there are any."""
import csv
import io
import json
import os
import re
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command

# Three phases within a few percent, and one of half the height.
PROGRAM = '''\
def load(count):
    return [bytes(10_000) for _ in range(count)]

def parse(count):
    return [str(number).zfill(10_000) for number in range(count)]

def sort(count):
    return [bytearray(10_000) for _ in range(count)]

for step, count in (load, 500), (parse, 485), (sort, 490), (load, 480):
    step(count)
for step in parse, sort:
    step(100)
'''
LOAD, PARSE, SORT = 2, 5, 8       # lines
TITLE = 'Next highest moments, and what held more than at the peak:'


class MomentTests(CommandCase):

    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM)
        cls.snapshot = os.path.join(cls.source, 'snapshot')
        cls.summary = command('run', '-o', cls.snapshot, path,
                              check=True).stderr

    def check_moments(self, lines):
        begin = lines.index(TITLE) + 1
        moments = lines[begin:begin + 4]
        for line, figures, more in zip((SORT, PARSE), moments[::2],
                                       moments[1::2], strict=True):
            self.assertRegex(figures, r'^ +[45]\.\d MiB at \d\d:\d\d:\d\d, '
                                      r'9\d % of the peak$')
            self.assertRegex(more, r'^ +\+4\.\d MiB  .*app\.py:%s in '
                                   % line)

    def test_summary(self):
        self.check_moments(self.summary.splitlines())

    def test_text(self):
        lines = self.ok(self.snapshot, '--what', 'peak').splitlines()
        self.check_moments(lines)
        heading = self.ok(self.snapshot).splitlines()
        found = [text for text in heading if text.startswith('Next highest')]
        self.assertEqual(len(found), 2)
        for text, line in zip(found, (SORT, PARSE)):
            self.assertRegex(text, r'^Next highest: [45]\.\d MiB at [\d:]+, '
                                   r'\+4\.\d MiB at .*app\.py:%s in ' % line)

    def test_json(self):
        document = json.loads(self.ok(self.snapshot, '--format', 'json'))
        peak = document['snapshot']['peak_memory']
        moments = document['snapshot']['next_peaks']
        self.assertEqual([moment['more'][0]['lineno'] for moment in moments],
                         [SORT, PARSE])
        for moment in moments:
            self.assertLess(moment['traced_memory'], peak)
            self.assertGreater(moment['traced_memory'], .9 * peak)
            self.assertGreater(moment['more'][0]['size_diff'], 4_000_000)
            self.assertLess(moment['timestamp'],
                            document['snapshot']['timestamp'])

    def test_csv(self):
        for by in 'line', 'file', 'function', 'traceback':
            with self.subTest(by=by):
                rows = list(csv.DictReader(io.StringIO(self.ok(
                    self.snapshot, '--format', 'csv', '--by', by))))
                document = json.loads(self.ok(self.snapshot, '--format',
                                              'json'))
                for number, moment in enumerate(
                        document['snapshot']['next_peaks'], 1):
                    self.assertEqual(
                        sum(int(row[f'next_peak_{number}_size'])
                            for row in rows), moment['traced_memory'])
        header = self.ok(self.snapshot, '--format', 'csv', '--by',
                         'type').splitlines()[0]
        self.assertNotIn('next_peak', header)

    def test_page(self):
        page = os.path.join(self.source, 'page.html')
        self.ok(self.snapshot, '-o', page)
        with open(page) as file:
            text = file.read()
        self.assertEqual(len(re.findall(
            r'\["Next highest",\s*"[45]\.\d MiB at [\d:]+, \+4\.\d MiB at ',
            text)), 2)

    def test_filters(self):
        """The moments are those of the run; what held more is filtered."""
        lines = self.ok(self.snapshot, '--what', 'peak', '--include',
                        '*/app.py').splitlines()
        self.check_moments(lines)
        lines = self.ok(self.snapshot, '--what', 'peak', '--exclude',
                        '*/app.py').splitlines()
        self.assertFalse([line for line in lines if 'app.py:' in line])

    def test_none(self):
        path = os.path.join(self.source, 'plain')
        command('run', '-q', '-o', path, '-c', 'kept = bytes(5_000_000)',
                check=True)
        self.assertNotIn('Next highest', self.ok(path, '--what', 'peak'))
        self.assertNotIn('next_peak', self.ok(path, '--format', 'csv'))

    def ok(self, *args):
        done = command('report', *args, check=True)
        return done.stdout


if __name__ == '__main__':
    unittest.main()
