"""pytracemalloc run: the program's status, signals, arguments and input are
those that `python` would give it."""

import os
import signal
import subprocess
import sys
import tracemalloc
import unittest
import zipfile

from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.terminal import Terminal

SHOW = '''\
import os, sys
print(sys.argv, __name__, sys.path[:2], __spec__ and __spec__.name)
print(globals().get('__file__'), __package__, sorted(globals()))
print(sys.modules['__main__'].__dict__ is globals(), sys.flags.optimize)
print(sys.stdin.read())
'''


class PlainTest(CommandCase):
    """What `pytracemalloc run ARGS` does beside what `python ARGS` does."""

    def compare(self, *args, **options):
        options = {'input': 'from stdin\n', 'capture_output': True,
                   'text': True} | options
        plain = subprocess.run([sys.executable, *args], **options)
        ours = command('run', '-q', '-f', '-o', 'a.tracemalloc', *args,
                       **options)
        self.assertEqual((ours.returncode, ours.stdout, ours.stderr),
                         (plain.returncode, plain.stdout, plain.stderr))
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertGreater(snapshot.traced_memory[1], 0)
        return plain

    def test_script(self):
        self.write('show.py', SHOW)
        path = self.write('package/__main__.py', SHOW)
        self.write('package/__init__.py', '')
        with zipfile.ZipFile('show.zip', 'w') as file:
            file.write(path, '__main__.py')
        self.write('-dash.py', SHOW)
        here = os.path.join(self.directory, 'show.py')
        for args in (['show.py', '-x', '--help', '-o', 'b', '--', '-q'],
                     ['./show.py'], [here, ''], ['package', '-m', 'x'],
                     ['show.zip', '-c'], ['show.zip/'],
                     ['-m', 'show', '--', '-n', '3'], ['-mshow', '-h'],
                     ['-m', 'package', '--follow'],
                     ['--', 'show.py', '--', 'x'], ['--', '-dash.py'],
                     ['-c', SHOW, '-m', '--'], ['-c' + SHOW]):
            with self.subTest(args):
                plain = self.compare(*args)
                self.assertEqual(plain.returncode, 0, plain.stderr)
                self.assertIn('from stdin\n', plain.stdout)

    def test_standard_input_is_the_program(self):
        plain = self.compare('-', '-x', input=SHOW)
        self.assertIn("['-', '-x']", plain.stdout)

    def test_binary_input(self):
        data = bytes(range(256)) * 1000
        plain = self.compare(
            '-c', 'import shutil, sys\n'
            'shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)',
            input=data, text=False)
        self.assertEqual(plain.stdout, data)

    def test_status(self):
        for code, status in (
                ('import sys; sys.exit("text: \\u00e4")', 1),
                ('import sys; sys.exit(3)', 3),
                ('import sys; sys.exit(None)', 0),
                ('raise SystemExit(-1)', 255),
                ('raise SystemExit(256)', 0),
                ('import os; os._exit(9)', 9),
                ('import os, threading\n'
                 'threading.Thread(target=os._exit, args=[8]).start()', 8),
                ('import atexit; atexit.register(print, "bye")', 0),
                ('import sys; sys.stdout.close()', 0),
                ('import sys; sys.stderr.close()', 0),
                ('import os; os.chdir("/"); os.close(2)', 0),
                ('raise KeyboardInterrupt', -signal.SIGINT)):
            with self.subTest(code):
                plain = self.compare('-c', code)
                self.assertEqual(plain.returncode, status)

    def test_tracebacks(self):
        self.write('fails.py', '''\
            import sys, threading
            def f(number):
                return 1 / number
            def g():
                try:
                    f(0)
                except ZeroDivisionError as exc:
                    raise ValueError('x') from exc
            thread = threading.Thread(target=sys.excepthook,
                                      args=(KeyError, KeyError('k'), None))
            thread.start()
            thread.join()
            g()
            ''')
        for args in (['fails.py'], ['-m', 'fails'], ['-m', 'nowhere'],
                     ['-c', 'import fails'], ['-c', 'x ='],
                     ['-c', 'def f(): f()\nf()'],
                     ['-c', 'raise ExceptionGroup("g", [KeyError()])'],
                     ['-c', 'import warnings; warnings.warn("w")']):
            with self.subTest(args):
                plain = self.compare(*args)
                self.assertNotEqual(plain.stderr, '')

    def test_options_of_the_interpreter_are_kept(self):
        code = 'import sys; print(sys.flags, sys.warnoptions, __debug__)'
        for options in (['-X', 'dev'], ['-O', '-W', 'error'], ['-bb', '-s']):
            plain = subprocess.run([sys.executable, *options, '-c', code],
                                   capture_output=True)
            ours = subprocess.run([sys.executable, *options, '-m',
                                   'pytracemalloc', 'run', '-fqoa', '-c',
                                   code], capture_output=True)
            self.assertEqual((ours.stdout, ours.stderr),
                             (plain.stdout, b''))

    def test_command_is_isolated_and_the_program_is_not(self):
        # As bin/pytracemalloc is: see Tools/install.
        self.write('pytracemalloc', 'import sys\n'
                   'from pytracemalloc.cli import main\nsys.exit(main())\n')
        self.write('place/beside.py', 'print("beside")')
        self.write('elsewhere/other.py', 'print("other")')
        self.write('place/app.py', 'import beside, other, sys\n'
                                   'print(sys.flags, sys.path)')
        environment = os.environ | {'PYTHONPATH': 'elsewhere'}
        plain = subprocess.run([sys.executable, 'place/app.py'],
                               capture_output=True, env=environment)
        ours = subprocess.run([sys.executable, '-I', 'pytracemalloc', 'run',
                               '-qo', 'a.tracemalloc', 'place/app.py'],
                              capture_output=True, env=environment)
        self.assertEqual((ours.returncode, ours.stdout, ours.stderr),
                         (0, plain.stdout, b''))
        tracemalloc.Snapshot.load('a.tracemalloc')

    def test_active_virtual_environment(self):
        code = 'import sys; print(sys.prefix)'
        for folder, options in ('env', []), ('copy', ['--copies']):
            subprocess.run([sys.executable, '-m', 'venv', '--without-pip',
                            *options, folder], check=True)
            active = os.path.abspath(folder)
            process = command('run', '-fqoa', '-c', code,
                              env=os.environ | {'VIRTUAL_ENV': active})
            self.assertEqual((process.stdout, process.stderr),
                             (f'{active}\n', ''))
        # In the other environment's own command the packages are its own.
        process = subprocess.run(
            ['env/bin/python3', '-m', 'pytracemalloc', 'run', '-fqoa', '-c',
             code], env=os.environ | {'VIRTUAL_ENV': active},
            capture_output=True, text=True)
        self.assertEqual((process.stdout, process.stderr),
                         (os.path.abspath('env') + '\n', ''))

    def test_virtual_environment_of_another_python(self):
        self.write('other/pyvenv.cfg', 'home = /elsewhere/bin\n')
        for active in 'other', 'nowhere':
            process = command('run', '-fqoa', '-c', 'import sys; '
                              'print(sys.prefix)',
                              env=os.environ | {'VIRTUAL_ENV': active})
            self.assertEqual((process.stdout, process.stderr), (
                f'{sys.prefix}\n', f'pytracemalloc: {active} is not an '
                f'environment of this Python; ignoring its packages; make '
                f'one with {sys.executable} -m venv\n'))

    def test_depth_beats_the_environment(self):
        process = command('run', '-q', '-n', '7', '-c', 'import tracemalloc; '
                          'print(tracemalloc.get_traceback_limit())',
                          env=os.environ | {'PYTHONTRACEMALLOC': '1'})
        self.assertEqual(process.stdout, '7\n')

    def test_program_that_stops_tracing(self):
        process = command('run', '-o', 'a.tracemalloc', '-c',
                          'import tracemalloc; tracemalloc.stop()')
        self.assertEqual((process.returncode, process.stderr), (
            0, 'pytracemalloc: no snapshot: the program has stopped '
               'tracing\n'))


class SignalTest(CommandCase):
    def start(self, code):
        """Start a program that has a million bytes on its line 2."""
        path = self.write('app.py', 'import os, signal, sys, time\n'
                          'kept = bytes(1_000_000)\n' + code)
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-o',
             'a.tracemalloc', path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        return process

    def check_report(self, errors):
        self.assertIn('app.py:2 in <module>', errors)
        self.assertIn('Snapshot: a.tracemalloc\n', errors)
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertGreater(snapshot.traced_memory[0], 1_000_000)
        os.unlink('a.tracemalloc')
        self.assertEqual(os.listdir(), ['app.py'])

    def test_default_action_comes_after_the_report(self):
        for number in signal.SIGTERM, signal.SIGHUP:
            for code in ('time.sleep(60)', 'while True: pass',
                         'import threading\n'
                         'threading.Thread(target=time.sleep, args=[60])'
                         '.start()\nthreading.Event().wait()',
                         'try:\n    sys.stdin.read()\n'
                         'finally:\n    print("not printed")'):
                with self.subTest(code, number=number):
                    process = self.start('print("ready", flush=True)\n'
                                         + code)
                    process.send_signal(number)
                    process.wait(60)      # with its input open
                    output, errors = process.communicate()
                    self.assertEqual((process.returncode, output),
                                     (-number, ''))
                    self.check_report(errors)

    def test_status_that_a_shell_sees(self):
        for name, status in (('TERM', 143), ('HUP', 129), ('INT', 130),
                             ('QUIT', 131), ('KILL', 137)):
            process = subprocess.run(
                ['sh', '-c', 'ulimit -c 0; "$@"; echo $?', 'sh',
                 sys.executable, '-m', 'pytracemalloc', 'run', '-f', '-o',
                 f'{name}.tracemalloc', '-c',
                 f'import os, signal; os.kill(os.getpid(), signal.SIG{name})'
                 f'\nimport time; time.sleep(60)'],
                capture_output=True, text=True)
            self.assertEqual(process.stdout, f'{status}\n')
            self.assertTrue(os.path.exists(f'{name}.tracemalloc'))

    def test_quit_ends_at_once(self):
        process = self.start('import resource\n'
                             'resource.setrlimit(resource.RLIMIT_CORE, '
                             '(0, 0))\n'
                             'print("ready", flush=True)\ntime.sleep(60)')
        process.send_signal(signal.SIGQUIT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGQUIT)
        self.assertTrue(errors.startswith('pytracemalloc: killed by SIGQUIT'),
                        errors)

    def test_program_that_handles_signals(self):
        process = self.start('''\
def handle(number, frame):
    os.write(1, b'got %d\\n' % number)
    if number == signal.SIGTERM:
        sys.exit(5)
for number in signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT:
    signal.signal(number, handle)
print('ready', flush=True)
while True:
    time.sleep(60)
''')
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT,
                       signal.SIGTERM):
            process.send_signal(number)
            self.assertEqual(process.stdout.readline(), f'got {number}\n')
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 5)
        self.check_report(errors)

    def test_ignored_signals_stay_ignored(self):
        process = subprocess.run(
            ['sh', '-c', 'trap "" TERM HUP; exec "$@"', 'sh', sys.executable,
             '-m', 'pytracemalloc', 'run', '-q', '-c', '''\
import os, signal
for number in signal.SIGTERM, signal.SIGHUP:
    os.kill(os.getpid(), number)
    print(signal.getsignal(number) is signal.SIG_IGN)
'''], capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stdout),
                         (0, 'True\nTrue\n'))

    def test_children_of_the_program_have_the_default_action(self):
        process = command(
            'run', '-q', '-c', 'import subprocess, sys\n'
            'print(subprocess.check_output([sys.executable, "-c", "import '
            'signal as s; print(*map(s.getsignal, (s.SIGTERM, s.SIGHUP)))"],'
            ' text=True))')
        self.assertEqual(process.stdout.strip(), '0 0')

    def test_signal_while_the_report_is_written(self):
        # The second signal comes in the midst of what the first one caused.
        process = self.start('''\
fsync = os.fsync
def slow(number):
    os.kill(os.getpid(), signal.SIGHUP)
    fsync(number)
os.fsync = slow
print('ready', flush=True)
time.sleep(60)
''')
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGHUP)
        self.check_report(errors)

    def test_signal_while_a_numbered_snapshot_is_written(self):
        process = command('run', '-o', 'a.tracemalloc', '--on-growth', '1 MB',
                          '-c', '''\
import os, signal
fsync = os.fsync
def slow(number):
    os.kill(os.getpid(), signal.SIGTERM)
    fsync(number)
os.fsync = slow
kept = []
while True:
    kept.append(bytes(100_000))
''')
        self.assertEqual(process.returncode, -signal.SIGTERM)
        self.assertEqual(sorted(os.listdir()),
                         ['a.0001.tracemalloc', 'a.tracemalloc'])
        for name in os.listdir():
            tracemalloc.Snapshot.load(name)

    def test_first_process_of_a_container(self):
        if subprocess.run(['unshare', '-rpf', 'true'],
                          capture_output=True).returncode:
            self.skipTest('needs unshare and leave to use it')
        process = subprocess.run(
            ['unshare', '-rpf', sys.executable, '-m', 'pytracemalloc', 'run',
             '-o', 'a.tracemalloc', '-c', 'import os, signal; '
             'os.kill(os.getpid(), signal.SIGTERM); print(os.getpid())'],
            capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stdout), (143, ''))
        self.assertIn('Snapshot: a.tracemalloc', process.stderr)


class TerminalTest(CommandCase):
    def shell(self):
        """A shell on a terminal, which says the status of each command."""
        environment = os.environ | {'PS1': '$ ', 'P': sys.executable}
        terminal = Terminal(program=('sh', '-i'), environment=environment)
        self.addCleanup(terminal.__exit__)
        return terminal

    def test_interrupt(self):
        self.write('app.py', 'kept = bytes(1_000_000)\n'
                   'print("ready")\nprint(input(), input())\n')
        terminal = self.shell()
        terminal.type('"$P" -m pytracemalloc run -o a.tracemalloc app.py\n')
        terminal.wait_for('ready')
        terminal.type('some\n\x03')
        terminal.wait_for('^Snapshot')
        terminal.type('echo "status=$?"\n')
        page = '\n'.join(terminal.wait_for(r'^(\$ )?status=130$'))
        self.assertIn('KeyboardInterrupt', page)
        self.assertIn('app.py:1 in <module>', page)
        self.assertIn('Snapshot: a.tracemalloc', page)
        self.assertNotIn('pytracemalloc/', page)

    def test_input_is_the_terminal(self):
        self.write('app.py', 'import sys\nprint("ready", sys.stdin.isatty(), '
                   'sys.stdout.isatty())\nprint([input("? "), input()])\n')
        terminal = self.shell()
        terminal.type('"$P" -m pytracemalloc run -qo a.tracemalloc app.py; '
                      'echo "status=$?"\n')
        terminal.wait_for('ready True True')
        terminal.type('one\ntwo\x7fp\n')
        page = terminal.wait_for('status=0$')
        self.assertIn("['one', 'twp']", page)

    def test_stop_and_continue(self):
        self.write('app.py', 'print("ready")\nprint([input()])\n')
        terminal = self.shell()
        terminal.type('"$P" -m pytracemalloc run -qo a.tracemalloc app.py\n')
        terminal.wait_for('ready')
        terminal.type('\x1a')
        terminal.wait_for('Stopped')
        terminal.type('fg; echo "status=$?"\nline\n')
        page = terminal.wait_for('status=0$')
        self.assertIn("['line']", page)


if __name__ == '__main__':
    unittest.main()
