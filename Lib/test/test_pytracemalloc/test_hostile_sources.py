"""Snapshots that name files which are no source: nothing is disclosed, no
report waits for ever, and Traceback.format() shows the same as before."""

import doctest
import linecache
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import unittest
import zipfile
import zipimport
from test.support import check_sanitizer
from unittest import mock

import tracemalloc
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.hostile import text_command
from tracemalloc.source_lines import getline, read_lines

SECRET = 'root:$6$hash:19000:0:99999:7:::'
SECONDS = 300                     # of a machine that is busy with other tests


def snapshot_of(names, lines=range(1, 4)):
    return tracemalloc.Snapshot(
        [(0, 100, tuple((name, line) for line in lines), 3)
         for name in names], 3)


class FilesCase(CommandCase):
    """A directory with whatever a name may lead to."""

    def setUp(self):
        super().setUp()
        self.write('secret', f'{SECRET}\n' * 3)
        self.write('good.py', 'good = 1\ngood = 2\n')
        os.mkdir('dir.py')
        os.mkfifo('pipe.py')
        os.mkfifo('pipe')
        for target, link in (('secret', 'link.py'), ('pipe', 'to_pipe.py'),
                             ('link.py', 'link2.py'), ('loop.py', 'loop.py'),
                             ('/dev/zero', 'zero.py'), ('no.py', 'dangle.py'),
                             ('/proc/self/mem', 'mem.py'),
                             ('good.py', 'to_good.py'), ('good.py', 'plain'),
                             ('.', 'here'), ('secret', 'secret.pyw')):
            os.symlink(target, link)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind('socket.py')
        with open('huge.py', 'wb') as file:
            file.truncate(1 << 40)
        self.bad = [os.path.join(self.directory, name) for name in (
            'secret', 'dir.py', 'pipe.py', 'pipe', 'link.py', 'to_pipe.py',
            'link2.py', 'loop.py', 'zero.py', 'dangle.py', 'mem.py', 'plain',
            'socket.py', 'here/link.py', 'here/../secret', 'secret.pyw',
            'secret\0.py', 'here/' * 20_000 + 'link.py', '\ud800.py')]
        self.bad += ['secret', 'link.py', './secret', '', '.py', '\0',
                     'x' * 100_000 + '.py', '/dev/zero', '/dev/tty',
                     '/dev/stdin', '/dev/fd/0', '/proc/self/environ',
                     '/proc/kmsg', '/proc/self/fd/0', '/dev/random',
                     self.directory]
        self.good = [os.path.join(self.directory, name) for name in (
            'good.py', 'to_good.py', 'here/good.py')] + ['good.py']


class ReportTest(FilesCase):
    def check(self, *arguments, good):
        """The whole command, since in a thread a hang is not seen."""
        process = subprocess.run(
            [sys.executable, '-m', *arguments], capture_output=True,
            text=True, timeout=SECONDS, stdin=subprocess.PIPE)
        self.assertEqual((process.returncode, process.stderr), (0, ''))
        self.assertNotIn('root:', process.stdout)
        self.assertEqual(process.stdout.count('good = 2'), good)

    def test_every_report(self):
        snapshot_of(self.bad + self.good).dump('x')
        everything = '--top', '99', '--by', 'traceback'
        good = len(self.good)
        self.check('pytracemalloc', 'report', 'x', *everything, good=good)
        snapshot_of([]).dump('old')
        self.check('pytracemalloc', 'diff', 'old', 'x', *everything,
                   good=good)
        self.check('tracemalloctext', '-t', '-n', '99', 'x', good=good)
        for format in 'html', 'flamegraph', 'json', 'csv', 'speedscope':
            with self.subTest(format=format):
                # The page has each text once.
                self.check('pytracemalloc', 'report', 'x', '--format', format,
                           '-o', '-', good=int(format == 'html'))

    def test_single_blocks(self):
        # A pickle has no addresses: all are 0.
        for name in self.bad:
            snapshot_of([name]).dump('x')
            status, text = text_command('-b', '0', 'x')
            self.assertEqual(status, 0)
            self.assertNotIn('root:', text)

    def test_format(self):
        for name in self.bad:
            lines = tracemalloc.Traceback([(name, 1)]).format()
            self.assertEqual(lines, [f'  File "{name}", line 1'])
        for name in self.good:
            lines = tracemalloc.Traceback([(name, 2)]).format()
            self.assertEqual(lines, [f'  File "{name}", line 2',
                                     '    good = 2'])

    def test_linecache_opens_nothing(self):
        with mock.patch('tokenize.open', side_effect=AssertionError):
            for name in self.good + self.bad:
                linecache.clearcache()
                tracemalloc.Traceback([(name, 1)]).format()
                read_lines([(name, 1)])

    def test_file_that_changes(self):
        """A link to the secret takes the place of a file, and of a directory,
        while they are looked at."""
        os.mkdir('ours')
        os.mkdir('theirs')
        self.write('ours/x.py', 'good = 1\n')
        os.symlink('../secret', 'theirs/x.py')
        ends = time.monotonic() + 3
        stopped = threading.Event()

        def change():
            while not stopped.is_set():
                os.symlink('secret', 'new')
                os.replace('new', 'race.py')
                os.symlink('theirs', 'new')
                os.replace('new', 'race')
                os.link('good.py', 'new')
                os.replace('new', 'race.py')
                os.symlink('ours', 'new')
                os.replace('new', 'race')

        thread = threading.Thread(target=change)
        thread.start()
        found = {'': 0}
        try:
            while time.monotonic() < ends:
                for name in 'race.py', 'race/x.py':
                    linecache.clearcache()
                    text = getline(name, 1).strip()
                    found[text] = found.get(text, 0) + 1
        finally:
            stopped.set()
            thread.join()
        self.assertLessEqual(found.keys(), {'', 'good = 1'})
        self.assertGreater(min(found.values()), 10, found)


class BoundsTest(FilesCase):
    def setUp(self):
        super().setUp()
        start = time.process_time()
        self.addCleanup(lambda: self.assertLess(time.process_time() - start,
                                                30))

    def test_a_million_names(self):
        self.assertEqual(read_lines((f'/nowhere/{number}.py', 1)
                                    for number in range(1_000_000)), {})

    def test_many_names_of_one_file(self):
        found = read_lines((f'{number:0100b}good.py'.replace('0', './')
                            .replace('1', 'here/'), 1)
                           for number in range(300_000))
        self.assertLess(0, len(found))

    @unittest.skipIf(check_sanitizer(thread=True), 'too slow')
    def test_reports_of_many_names(self):
        snapshot_of([f'/nowhere/{number}/x.py' for number in range(100_000)],
                    [1]).dump('x')
        for options in ('--by', 'traceback'), ('--format', 'html', '-o', '-'):
            process = command('report', 'x', *options)
            self.assertEqual((process.returncode, process.stderr), (0, ''))

    def test_large_files(self):
        """Nothing is shown of what is far in a file, or of many files."""
        self.enterContext(mock.patch(
            'tracemalloc.source_lines._MAX_SECONDS', SECONDS))
        self.write('long.py', 'x = 1\n' * 3_000_000 + 'y = 1\n')
        self.assertEqual(read_lines([('long.py', 1), ('long.py', 3_000_001)]),
                         {('long.py', 1): 'x = 1'})
        self.write('wide.py', '#' * (16 << 20))
        self.assertEqual(read_lines([('wide.py', 1)]),
                         {('wide.py', 1): '#' * 300})
        for number in range(200):
            os.link('wide.py', f'wide{number}.py')
        found = read_lines((f'wide{number}.py', 1) for number in range(200))
        self.assertEqual(len(found), 32)
        # format() has whole lines, and so none of a file that is not read.
        self.assertEqual(getline('wide.py', 1), '')

    def test_slow_encodings(self):
        for codec in 'punycode', 'idna':
            self.write(f'{codec}.py', f'# coding: {codec}\n'
                                      + 'a-b\u00e9'.encode().hex() * 300_000)
            self.assertEqual(len(read_lines([(f'{codec}.py', 2)])), 1)
            self.assertEqual(getline(f'{codec}.py', 2), '')

    def test_file_system_that_does_not_answer(self):
        answer = threading.Event()
        with mock.patch('tracemalloc.source_lines._MAX_SECONDS', 0.1), \
                mock.patch('os.path.realpath',
                           lambda name: answer.wait() and name):
            self.assertEqual(read_lines([('good.py', 1)]), {})
        answer.set()

    def test_what_linecache_is_given(self):
        linecache.clearcache()
        before = set(linecache.cache)
        self.write('large.py', f'x = 1\n#{"x" * 1_000_000}\n')
        with mock.patch('tracemalloc.source_lines._MAX_KEPT', 10_000_000), \
                mock.patch('tracemalloc.source_lines._kept', 0):
            for number in range(20):
                os.link('large.py', f'large{number}.py')
                self.assertEqual(getline(f'large{number}.py', 1), 'x = 1\n')
                getline(f'no{number}.py', 1)
        self.assertLess(len(set(linecache.cache) - before), 10)


class FormatTest(CommandCase):
    """The same as linecache for whatever a program has."""

    def setUp(self):
        super().setUp()
        linecache.clearcache()
        self.addCleanup(linecache.clearcache)

    def same(self, name, numbers=range(6)):
        linecache.clearcache()
        ours = [getline(name, number) for number in numbers]
        entry = linecache.cache.get(name)
        linecache.clearcache()
        theirs = [linecache.getline(name, number) for number in numbers]
        self.assertEqual(ours, theirs, name)
        self.assertEqual(entry, linecache.cache.get(name))

    def test_texts(self):
        for name, data in (
                ('empty', b''), ('newline', b'\n'), ('open', b'a\nb'),
                ('dos', b'a\r\nb\r\n'), ('mac', b'a\rb\r'),
                ('feed', b'a\n\fb\x0bc\x1cd\n\x85e\n'),
                ('bom', b'\xef\xbb\xbfa = "\xc3\xa9"\n'),
                ('latin', b'# coding: latin-1\n"\xe9"\n'),
                ('cyrillic', b'#!x\n# -*- coding: koi8-r -*-\n"\xc1"\n'),
                ('unknown', b'# coding: nothing\na\n'),
                ('binary', b'\xff\xfe\0\n'),
                ('separator', 'a\u2028b\nc\n'.encode())):
            with open(f'{name}.py', 'wb') as file:
                file.write(data)
            self.same(f'{name}.py')
            self.same(os.path.abspath(f'{name}.py'))
        for name in ('nothing.py', '<string>', '<stdin>',
                     '<frozen importlib._bootstrap>', os.__file__,
                     tracemalloc.__file__, traceback.__file__):
            self.same(name, range(0, 200, 7))

    def test_encoding_of_something_else(self):
        # linecache raises LookupError.
        self.write('codec.py', '# coding: rot13\na\n')
        self.assertEqual(getline('codec.py', 1), '')

    def test_search_path(self):
        os.mkdir('lib')
        self.write('lib/found.py', 'found = 1\n')
        with mock.patch.object(sys, 'path', [None, 'nothing', 'lib']):
            self.same('found.py')
            self.assertEqual(getline('found.py', 1), 'found = 1\n')

    def test_file_that_was_edited(self):
        name = self.write('edited.py', 'old = 1\n')
        self.assertEqual(getline(name, 1), 'old = 1\n')
        self.write('edited.py', 'brand_new = 1\n')
        self.assertEqual(getline(name, 1), 'old = 1\n')
        linecache.checkcache(name)
        self.assertEqual(getline(name, 1), 'brand_new = 1\n')

    def test_module_in_an_archive(self):
        with zipfile.ZipFile('a.zip', 'w') as archive:
            archive.writestr('packed.py', 'packed = 1\n')
        name = os.path.join('a.zip', 'packed.py')
        self.assertEqual(getline(name, 1), '')
        loader = zipimport.zipimporter('a.zip')
        linecache.lazycache(name, {'__name__': 'packed',
                                   '__loader__': loader})
        self.assertEqual(getline(name, 1), 'packed = 1\n')

    def test_cells(self):
        for name in '/tmp/ipykernel_1/23.py', '<ipython-input-1>':
            linecache.cache[name] = 5, None, ['cell\n'], name
            self.assertEqual(getline(name, 1), 'cell\n')
            self.assertEqual(read_lines([(name, 1)]), {(name, 1): 'cell'})

    def test_doctest(self):
        test = doctest.DocTestParser().get_doctest(
            '>>> import tracemalloc\n'
            '>>> name = (lambda: 0).__code__.co_filename\n'
            '>>> tracemalloc.Traceback([(name, 1)]).format()[1]\n'
            "'    name = (lambda: 0).__code__.co_filename'\n"
            '>>> from tracemalloc.source_lines import read_lines\n'
            '>>> list(read_lines([(name, 1)]).values())\n'
            "['name = (lambda: 0).__code__.co_filename']\n",
            {}, 'test', None, 0)
        runner = doctest.DocTestRunner(verbose=False)
        self.assertEqual(runner.run(test), (0, 5))

    def test_program_without_a_suffix(self):
        self.write('tool', 'import tracemalloc\n'
                           'tracemalloc.start()\n'
                           'kept = bytes(1000)\n'
                           'trace = tracemalloc.get_object_traceback(kept)\n'
                           'print(trace.format()[1])\n')
        done = subprocess.run([sys.executable, 'tool'], capture_output=True,
                              text=True)
        self.assertEqual((done.stdout, done.stderr),
                         ('    kept = bytes(1000)\n', ''))


if __name__ == '__main__':
    unittest.main()
