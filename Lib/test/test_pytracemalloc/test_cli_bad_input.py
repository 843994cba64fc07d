"""What bad input gets: one line that says what and what to do, 2 for usage, 1
for failure, never a traceback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from pytracemalloc.commands import COMMANDS
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.terminal import Terminal

ROOT = os.getuid() == 0
NOBODY = 65534
# Command line after `pytracemalloc`, exit status, what the line says.  Names
# of files: see setUp().
CASES = (
    # Files that are no snapshot.
    ('report nothing', 1, 'nothing: No such file .*; give a file written by'),
    ('report nothing/x', 1, 'No such file'),
    ('report old/x', 1, 'Not a directory; give'),
    ('report empty', 1, 'empty: the file is empty; give a file'),
    ('report text', 1, 'text: not a whole snapshot: .*; copy it again or'),
    ('report cut', 1, 'cut: not a whole snapshot: .* at offset .*; copy it'),
    ('report flipped', 1, 'flipped: not a whole snapshot: .* offset .*; copy'),
    ('report newer', 1, r'newer: of a newer version of the format than \d+ '
                        r'\(read it with the pytracemalloc that wrote it, or'),
    ('diff older new', 1, r'older: of an older version of the format than \d+ '
                          r'\(read it with the pytracemalloc that wrote it'),
    ('report .', 1, 'Is a directory; give a file'),
    ('report /dev/null', 1, 'a device; give a file'),
    ('report /dev/zero', 1, 'a device; give a file'),
    ('diff nothing new', 1, 'nothing: No such file .*; give'),
    ('diff old nothing', 1, 'nothing: No such file .*; give'),
    ('diff empty new', 1, 'empty: the file is empty; give'),
    ('diff old text', 1, 'text: not a whole snapshot: .*; copy'),
    ('diff cut new', 1, 'cut: not a whole snapshot: .*; copy'),
    ('diff old flipped', 1, 'flipped: not a whole snapshot: .*; copy'),
    ('diff . new', 1, 'Is a directory; give'),
    ('diff old /dev/full', 1, 'a device; give'),
    # Keys, formats and other values.
    ('report new --by colour', 2, "unknown key 'colour'; choose one of line"),
    ('diff old new --by colour', 2, "unknown key 'colour'; choose one of"),
    ('report new --format gif', 2, "unknown format 'gif'; choose one of text"),
    ('diff old new --format gif', 2, "unknown format 'gif'; choose one of"),
    ('report new --what weight', 2, "unknown value 'weight' of --what; "
                                    'choose one of size, count, peak'),
    ('diff old new --what weight', 2, 'unknown value'),
    ('report new --by type --what peak', 2, 'live memory only; leave out'),
    ('report new --by type+lineno --what total', 2, 'live memory only; leave'),
    ('diff old new --by address --what garbage', 2, 'live memory only; leave'),
    ('report new --by type --cumulative', 2, 'not work with --cumulative'),
    ('report new --by traceback --cumulative', 2, 'not work with --cumul'),
    ('report new --top 0', 2, 'must be a positive integer .*report --help'),
    ('why new app.py:4', 1, 'new: the snapshot has no references: record'),
    ('why text app.py:4', 1, 'text: not a whole snapshot: .*; copy'),
    ('why new 0xyz', 2, "bad address '0xyz': give hex digits, as 0x7f00"),
    ('why new app.py:', 2, "bad filter 'app.py:': give FILENAME"),
    ('why new list --most 0', 2, 'must be a positive integer .*why --help'),
    ('why new', 2, r'required: SITE\|TYPE\|ADDRESS .*why --help'),
    ('report new --by holder', 1, 'new: the snapshot has no references'),
    ('report new --by holder --format html', 1, 'no references'),
    ('report new --by holder --format csv', 2, 'written as text, json or'),
    ('report new --by holder -o text', 1, 'no references'),
    ('report new --by domain --what retained', 2, 'works only with --by line'),
    ('diff old new --by holder', 1, 'old: the snapshot has no references'),
    ('diff old new --what retained', 2, 'only by holder; add --by holder'),
    ('report bare --by type', 1, 'bare: the snapshot has no traces'),
    ('completion tcsh', 2, "choose from '?bash'?, '?zsh'?, '?fish"),
    ('run -n 0 app.py', 2, '-n 0: give a number from 1 to 65535, or full'),
    ('run -n 65536 app.py', 2, '-n 65536: give a number from 1 to'),
    ('run -n many app.py', 2, '-n many: give a number'),
    ('run --every 0 app.py', 2, '--every 0: give a number of seconds, 1 or'),
    ('run --references --no-traces app.py', 2, 'leave out --no-traces'),
    ('run --keys app.py', 2, 'add --references'),
    ('run --every nan app.py', 2, '--every nan: give'),
    ('run --on-growth big app.py', 2, "'big' is not a size; write it as 500"),
    ('run --on-growth 0 app.py', 2, 'give a size from 1 B'),
    ('run --on-growth 9999999T app.py', 2, 'give a size from 1 B to 1 EiB'),
    ('run --every 9 -o /dev/null app.py', 2, 'need a file .*; give one with'),
    ('run --top x app.py', 2, 'must be a positive integer .*run --help'),
    ('serve -n 0 app.py', 2, '-n 0: give'),
    ('serve --port 99999 app.py', 2, '--port 99999: give a number from 0 to'),
    ('serve --host 192.0.2.1 app.py', 1, 'cannot serve on 192.0.2.1:0: .*; '
                                         'choose another --host or --port'),
    ('diff old new --fail-above much', 2, '--fail-above much: give a share'),
    ('report new --fail-above 5%', 2, 'nothing to compare with; give a size'),
    ('report new --fail-above 5', 3, 'FAIL: live memory: .*, more than 5$'),
    ('demo -o text', 1, 'text: File exists; choose another place with -o'),
    ('demo --requests 0', 2, 'must be a positive integer .*demo --help'),
    ('start ME -n 0', 2, '-n 0: give a number from 1 to'),
    ('snapshot ME --keys', 2, '--keys needs references; add --references'),
    ('top 1 --interval 0', 2, 'must be a positive integer .*top --help'),
    # Command lines.
    ('', 2, 'required: COMMAND .*--help'),
    ('analyse', 2, "invalid choice: 'analyse'.*--help"),
    ('report', 2, 'required: FILE .*report --help'),
    ('diff old', 2, 'required: NEW .*diff --help'),
    ('top', 2, r'required: PID\|SOCKET\|DIRECTORY .*top --help'),
    ('top 1 --by task --my-code', 2, '--my-code hides; leave out one'),
    ('push', 2, r'required: PID\|SOCKET\|DIRECTORY .*push --help'),
    ('push 1', 2, 'no URL of a receiver; give it after the program'),
    ('push 1 collector:4318', 2, 'collector:4318: give the URL of an OTLP'),
    ('push 1 http://a --interval 0', 2, 'must be a positive integer'),
    ('completion', 2, 'required: .*completion --help'),
    ('run', 2, 'no program; give a script, -m MODULE or -c CODE'),
    ('run --', 2, 'no program; give'),
    ('run -m', 2, '-m needs an argument'),
    ('serve -c', 2, '-c needs an argument'),
    ('serve', 2, 'no program; give'),
    ('run nothing.py', 1, 'nothing.py: no such file; give a script'),
    ('serve nothing.py', 1, 'nothing.py: no such file; give a script'),
    ('report new old --format csv', 2, 'several snapshots can be'),
    ('report new --nothing', 2, 'unrecognized arguments: --nothing'),
    ('diff old new --nothing', 2, 'unrecognized arguments: --nothing'),
    ('run --nothing app.py', 2, 'unrecognized arguments: --nothing'),
    ('serve --follow app.py', 2, 'unrecognized arguments: --follow'),
    ('top 1 --nothing', 2, 'unrecognized arguments: --nothing'),
    ('completion bash x', 2, 'unrecognized arguments: x'),
    ('report new --format', 2, 'expected one argument .*report --help'),
    # Outputs.
    ('report new -o text', 1, 'text exists; overwrite it with -f or choose'),
    ('report new -o link', 1, 'link exists; overwrite it with -f or choose'),
    ('diff old new -o text', 1, 'text exists; overwrite it with -f or'),
    ('run -o text app.py', 1, 'text exists; overwrite it with -f or choose'),
    ('run --every 9 -o n app.py', 1, 'n.0001 exists; overwrite it with -f'),
    ('run --on-growth 9 -o n app.py', 1, 'n.0001 exists; overwrite it with'),
    ('report new --format html', 1, 'new.html exists; overwrite it with -f'),
    ('report new -f -o .', 1, 'is a directory; give a file name'),
    ('diff old new -f -o .', 1, 'is a directory; give a file name'),
    ('run -f -o . app.py', 1, 'is a directory; give a file name'),
    ('run --output= app.py', 1, "'' is no file name; give one with -o"),
    ('report new --output=', 1, "'' is no file name; give one with -o"),
    ('report new -o no/x.html', 1, 'no/x.html: No such file .*; choose '
                                   'another place with -o'),
    ('diff old new -o no/x', 1, 'no/x: No such file .*; choose another place'),
    ('run -o no/x app.py', 1, 'no/x: No such file .*; choose'),
    ('run -o text/x app.py', 1, 'text/x: Not a directory; '),
    ('report new -o text/x', 1, 'text/x: Not a directory; choose'),
    ('report new -o /dev/full', 1, '/dev/full: No space left on device; '
                                   'choose another place with -o'),
    ('report new -o /dev/full --format html', 1, 'No space left'),
    ('report new -o /dev/full --format pprof', 1, 'No space left'),
    ('diff old new -o /dev/full --format json', 1, '/dev/full: No space left'),
    # Programs to watch.
    ('top 999999999', 1, 'there is no process 999999999'),
    ('top nothing', 1, 'no such socket; .* start it with -X'),
    ('top text', 1, 'text: not a socket; give a process id or'),
    ('top .', 1, 'no program has a control socket there'),
    ('top dead.sock', 1, 'dead.sock: nobody is listening; the program that'),
    ('status 999999999', 1, 'there is no process 999999999'),
    ('start nothing', 1, 'no such socket; .* start it with -X'),
    ('stop text', 1, 'text: not a socket; give a process id or'),
    ('reset-peak dead.sock', 1, 'dead.sock: nobody is listening; the program'),
    ('top --json .', 1, 'no program has a control socket there'),
    ('top ME', 1, 'process .* has no control socket; start it with -X'),
)
# Commands that write to standard output.
LONG = ('report new', 'report new --format json', 'report new --format '
        'collapsed', 'report new --format pprof -o -', 'diff old new',
        'diff old new --format csv', 'completion bash', '--help',
        'report --help', '--version')


class BadInputTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        cls.source = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.source)
        for name, code, *options in (('old', 'kept = bytes(99)'),
                                     ('new', 'kept = bytes(999_999)'),
                                     ('two', '', '-n', '2'),
                                     ('bare', '', '--no-traces')):
            command('run', '-q', *options, '-o',
                    os.path.join(cls.source, name), '-c', code, check=True)

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)
        for name in os.listdir(self.source):
            shutil.copy(os.path.join(self.source, name), name)
        with open('new', 'rb') as file:
            data = file.read()
        for name, content in (
                ('empty', b''), ('text', b'precious'), ('app.py', b''),
                ('n.0001', b'precious'), ('new.html', b'precious'),
                ('cut', data[:len(data) // 2]),
                ('newer', data[:8] + b'\xff' + data[9:]),
                ('older', data[:8] + b'\1' + data[9:]),
                ('flipped', data[:200] + bytes([data[200] ^ 1])
                 + data[201:])):
            with open(name, 'wb') as file:
                file.write(content)
        os.symlink('nowhere', 'link')
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind('dead.sock')
        self.before = self.contents()

    def contents(self):
        found = {}
        for name in os.listdir():
            if os.path.isfile(name):
                with open(name, 'rb') as file:
                    found[name] = file.read()
        return found

    def check(self, process, status, pattern):
        self.assertEqual(process.returncode, status, process.stderr)
        self.assertRegex(process.stderr,
                         rf'\Apytracemalloc: .*{pattern}.*\n\Z')

    def test_cases(self):
        for line, status, pattern in CASES:
            with self.subTest(line):
                self.refused(status, f'^pytracemalloc: .*{pattern}',
                             *line.replace('ME', str(os.getpid())).split())
        # Nothing was lost, and nothing left behind.
        self.assertEqual(self.contents(), self.before)
        self.assertTrue(os.path.islink('link'))

    def test_processes(self):
        # As a user sees it: the interpreter's own end adds nothing.
        environment = {name: value for name, value in os.environ.items()
                       if name != 'PYTHONUNBUFFERED'}
        for line, status, pattern in CASES[::7]:
            with self.subTest(line):
                self.check(command(*line.replace('ME', str(os.getpid()))
                                   .split(), env=environment),
                           status, pattern)

    def test_every_command_is_here(self):
        tried = {line.split()[0] for line, _, _ in CASES if line}
        self.assertEqual(tried, {*COMMANDS, 'analyse'} - {'rss', 'recover'})

    def test_force_overwrites(self):
        for line in ('report new -f -o text', 'diff old new -f -o text',
                     'report new -f -o link', 'report new -f --format html'):
            self.ok(*line.split())
        self.assertFalse(os.path.islink('link'))
        for line in ('run -q -f -o text app.py',
                     'run -q -f --every 9 -o n app.py'):
            process = command(*line.split())
            self.assertEqual((process.returncode, process.stderr), (0, ''))

    def test_output_that_is_not_complete(self):
        for name in LONG:
            for sink, status, pattern in (
                    ('| true', 1, None),
                    ('>&-', 1, 'standard output: Bad file descriptor'),
                    ('> /dev/full', 1, 'standard output: No space left on '
                                       'device')):
                for unbuffered in '', '1':
                    with self.subTest(name, sink=sink, unbuffered=unbuffered):
                        process = subprocess.run(
                            ['bash', '-c', f'set -o pipefail; "$@" {sink}',
                             'bash', sys.executable, '-m', 'pytracemalloc',
                             *name.split()], capture_output=True, text=True,
                            env=os.environ | {'PYTHONUNBUFFERED': unbuffered})
                        if sink == '| true' and not process.returncode:
                            continue      # it was written before true ended
                        if sink == '| true':
                            self.assertEqual(
                                (process.returncode, process.stderr), (1, ''))
                            continue
                        self.check(process, status, pattern)

    def test_streams_that_are_closed(self):
        for line, sink, status in (
                ('report new -o a.txt', '<&- >&-', 0),
                ('report nothing', '2>&-', 1),
                ('run -o a.tracemalloc -c "raise SystemExit(3)"',
                 '<&- >&- 2>&-', 3)):
            with self.subTest(line):
                process = subprocess.run(
                    ['bash', '-c', f'"$1" -m pytracemalloc {line} {sink}',
                     'bash', sys.executable], capture_output=True, text=True)
                self.assertEqual((process.returncode, process.stdout,
                                  process.stderr), (status, '', ''))
        self.assertTrue(os.path.getsize('a.txt'))
        self.assertTrue(os.path.getsize('a.tracemalloc'))

    @unittest.skipUnless(ROOT, 'only root can be another user')
    def test_as_nobody(self):
        os.chmod('old', 0o600)
        os.mkdir('closed', 0o700)
        shutil.copy('new', 'closed/new')
        for line, status, pattern in (
                ('report old', 1, 'old: Permission denied; give a file'),
                ('diff old new', 1, 'old: Permission denied; give'),
                ('diff new old', 1, 'old: Permission denied; give'),
                ('report closed/new', 1, 'Permission denied'),
                ('report new -o mine', 1, 'mine: Permission denied; choose '
                                          'another place with -o'),
                ('report new --format pprof', 1, 'Permission denied; choose'),
                ('run app.py', 1, r'app\..*: Permission denied; '
                                  'choose another place with -o'),
                (f'top {os.getpid()}', 1, 'another user; run this as that'),
                ('top dead.sock', 1, 'permission denied: the socket belongs '
                                     'to another user')):
            with self.subTest(line):
                os.chmod('dead.sock', 0o600)
                self.check(command(*line.split(), user=NOBODY), status,
                           pattern)

    def test_process_that_dies_while_it_is_asked(self):
        program = subprocess.Popen(
            [sys.executable, '-c', 'import socket, sys\n'
             'listener = socket.socket(socket.AF_UNIX)\n'
             'listener.bind("c.sock"); listener.listen()\n'
             'print("ready", flush=True)\n'
             'listener.accept()[0].recv(9)'], stdout=subprocess.PIPE)
        with program:
            program.stdout.readline()
            self.check(command('top', 'c.sock'), 1, 'the program has ended')

    def test_socket_of_something_else(self):
        program = subprocess.Popen(
            [sys.executable, '-c', 'import socket, sys\n'
             'listener = socket.socket(socket.AF_UNIX)\n'
             'listener.bind("c.sock"); listener.listen()\n'
             'print("ready", flush=True)\n'
             'client = listener.accept()[0]\n'
             'client.recv(9); client.sendall(b"220 hello\\n")'],
            stdout=subprocess.PIPE)
        with program:
            program.stdout.readline()
            self.check(command('top', 'c.sock'), 1,
                       'not a tracemalloc control socket')

    def test_twenty_columns(self):
        self.start_watched()
        for line in ('report new', 'report new --by traceback',
                     'report new --by type --what count', 'diff old new',
                     'diff old new --by function --what peak',
                     'run -o a app.py'):
            with self.subTest(line), \
                    Terminal(*line.split(), columns=20) as terminal:
                status, output = terminal.end()
                self.assertEqual(status, 0, output)
                lines = output.replace('\r', '').splitlines()
                self.assertGreater(len(lines), 4)
                self.assertLessEqual(max(map(len, lines)), 20, lines)
        with Terminal('top', 'c.sock', columns=20) as terminal:
            page = terminal.wait_for('^traced')
            self.assertLessEqual(max(map(len, page)), 20)

    def test_binary_not_to_a_terminal(self):
        with Terminal('report', 'new', '--format', 'pprof', '-o',
                      '-') as terminal:
            self.assertEqual(terminal.end(), (
                2, 'pytracemalloc: this format is binary; give a file with '
                   '-o\r\n'))

    def test_interrupt(self):
        os.mkfifo('fifo')
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'report', 'fifo'],
            stderr=subprocess.PIPE, text=True)
        with open('fifo', 'wb'):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (130, ''))

    def test_directory_that_is_gone(self):
        process = subprocess.run(
            [sys.executable, '-c', 'import os\n'
             'os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")\n'
             'import pytracemalloc.cli\n'
             'raise SystemExit(pytracemalloc.cli.main(["run", "-c", "1"]))'],
            capture_output=True, text=True)
        self.check(process, 1, r'code\..*: No such file .*; choose another '
                               'place with -o')

    def test_filters_that_nothing_passes(self):
        for line in ('report new --include *nowhere.py',
                     'report new --format csv --exclude *',
                     'diff old new --include *nowhere.py:3 --all-frames'):
            process = command(*line.split())
            self.assertEqual(process.returncode, 0)
            self.assertRegex(process.stderr, r'\Apytracemalloc: (new|old): no '
                                             'allocation passes the filters\n')

    def test_pipes_are_read_and_written(self):
        # Files are UTF-8, whatever the terminal is.
        environment = os.environ | {'LC_ALL': 'C', 'PYTHONUTF8': '0',
                                    'PYTHONCOERCECLOCALE': '0'}
        code = ('import sys; from pytracemalloc.cli import main\n'
                'sys.exit(main(["report", sys.argv[1], "-o", sys.argv[2], '
                '"--title", chr(228)]))')
        process = subprocess.run(
            ['bash', '-c', '"$1" -c "$2" <(cat new) >(cat >&2)', 'bash',
             sys.executable, code],
            capture_output=True, encoding='utf-8', env=environment)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn('\u00e4\n', process.stderr)
        self.assertIn('Top 10 lines', process.stderr)


if __name__ == '__main__':
    unittest.main()
