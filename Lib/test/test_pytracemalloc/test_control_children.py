"""Whose the control socket is when a program has child processes, and that
the command `pytracemalloc` has none."""

import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

from pytracemalloc.client import Client


class ChildrenCase(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'c.sock')

    def write(self, code):
        path = os.path.join(self.directory, 'program.py')
        with open(path, 'w') as file:
            file.write(textwrap.dedent(code))
        return path

    def start(self, *arguments, control=None, **options):
        return subprocess.Popen(
            [sys.executable, *arguments], text=True, cwd=self.directory,
            env=os.environ | {'PYTRACEMALLOC_CONTROL': control or self.path},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **options)

    def run_program(self, code, *arguments, **options):
        """Return the lines that a program has written to standard output."""
        process = self.start(self.write(code), *arguments, **options)
        output, errors = process.communicate(timeout=120)
        self.assertEqual((process.returncode, errors), (0, ''))
        return output.splitlines()


class FilePathTest(ChildrenCase):
    """The path is that of one socket: the first process has it."""

    CHILD = '''
        import json, os, socket, sys, warnings
        def owner():
            """Return the process that answers at the path."""
            warnings.simplefilter('ignore')       # fork() with threads
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(sys.argv[1])
                client.sendall(b'{"command": "status"}\\n')
                return json.loads(client.makefile().readline())['pid']
        '''

    def check(self, code, **options):
        lines = self.run_program(
            textwrap.dedent(self.CHILD) + textwrap.dedent(code), self.path,
            **options)
        [owner] = set(lines)      # each has found the same one
        self.assertFalse(os.path.exists(self.path))
        return int(owner)

    def test_subprocess(self):
        self.check('''
            import subprocess
            print(owner(), flush=True)
            if len(sys.argv) == 2:
                me = [sys.executable, *sys.argv, 'child']
                subprocess.run(me, check=True)
                subprocess.run(['sh', '-c', '"$@"; exit $?', 'sh', *me],
                               check=True)
                print(owner(), flush=True)
            ''')

    def test_option(self):
        process = self.start(
            '-X', f'tracemalloc_control={self.path}', self.write('''
                import subprocess, sys
                subprocess.run([sys.executable, *sys.orig_argv[1:3], '-c',
                                'pass'], check=True)
                '''), control='/nowhere/c.sock')
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, ''))

    def test_multiprocessing(self):
        for method in 'spawn', 'forkserver', 'fork':
            with self.subTest(method):
                self.check(f'''
                    import multiprocessing
                    def run(number):
                        return owner()
                    if __name__ == '__main__':
                        print(owner(), flush=True)
                        context = multiprocessing.get_context({method!r})
                        with context.Pool(2) as pool:
                            print(*pool.map(run, range(4)), sep='\\n')
                            pool.close()
                            pool.join()
                        print(owner())
                    ''')

    def test_fork(self):
        # The child ends as a program does: what is registered to be called
        # then is called, and must leave the socket.
        self.check('''
            print(owner(), flush=True)
            child = os.fork()
            if not child:
                print(owner(), flush=True)
                sys.exit()
            os.waitpid(child, 0)
            print(owner(), flush=True)
            ''')

    def test_program_that_becomes_itself_again(self):
        # As one that reloads its code does: the process stays the same.
        self.check('''
            assert owner() == os.getpid()
            print(owner(), flush=True)
            if len(sys.argv) == 2:
                os.execv(sys.executable, [sys.executable, *sys.argv, 'x'])
            ''')

    def test_other_programs_are_told(self):
        owner = self.start('-c', 'import sys; print(flush=True); '
                                 'sys.stdin.read()')
        owner.stdout.readline()
        other = self.start('-c', 'print("runs")')
        output, errors = other.communicate(timeout=60)
        self.assertEqual((other.returncode, output), (0, 'runs\n'))
        self.assertEqual(errors, (
            f'tracemalloc: no control socket at {self.path}: it is the '
            f'socket of process {owner.pid}; name a directory to have one '
            f'for each\n'))
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], owner.pid)
        owner.communicate()

    def test_without_standard_error(self):
        # What would go there must not end up in standard output.
        process = self.start('-c', 'print("runs")', control='/nowhere/c.sock',
                             preexec_fn=lambda: os.close(2))
        output, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, output), (0, 'runs\n'))


class DirectoryTest(ChildrenCase):
    """Each process that starts has a socket of its own."""

    def test_children(self):
        sockets = os.path.join(self.directory, 'sockets')
        os.mkdir(sockets)
        lines = self.run_program('''
            import os, subprocess, sys
            print(os.getpid(), flush=True)
            if len(sys.argv) == 2:
                subprocess.run([sys.executable, *sys.argv, 'child'])
                names = set(os.listdir(sys.argv[1]))
                assert names == {f'{os.getpid()}.sock'}, names
            else:
                assert f'{os.getpid()}.sock' in os.listdir(sys.argv[1])
            ''', sockets, control=sockets)
        self.assertEqual(len(set(lines)), 2)
        self.assertEqual(os.listdir(sockets), [])

    def test_workers_that_are_forked(self):
        # As gunicorn has them: each serves a socket when it begins, and ends
        # when the master asks it to.
        sockets = os.path.join(self.directory, 'sockets')
        os.mkdir(sockets)
        self.run_program('''
            import os, signal, sys, tracemalloc, warnings
            import pytracemalloc.control
            from pytracemalloc.client import Client
            warnings.simplefilter('ignore')       # fork() with threads

            def work(sockets, ready):
                signal.signal(signal.SIGTERM, lambda *args: sys.exit())
                pytracemalloc.control.serve(sockets)
                os.write(ready, b'x')
                while True:
                    signal.pause()

            master, sockets = sys.argv[1:]
            end, ready = os.pipe()
            workers = []
            for _ in range(3):
                worker = os.fork()
                if not worker:
                    work(sockets, ready)
                workers.append(worker)
                os.read(end, 1)
            assert set(os.listdir(sockets)) == {
                f'{worker}.sock' for worker in workers}
            for process, path in [(os.getpid(), master)] + [
                    (worker, f'{sockets}/{worker}.sock')
                    for worker in workers]:
                with Client(path) as client:
                    assert client.ask('status')['pid'] == process
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
                assert os.waitpid(worker, 0)[1] == 0
            assert os.listdir(sockets) == []
            assert os.path.exists(master)
            ''', self.path, sockets)
        self.assertFalse(os.path.exists(self.path))


class CommandTest(ChildrenCase):
    """The command looks at the program that the variable names."""

    def test_options_before_it(self):
        program = self.start('-c', 'import sys; print(flush=True); '
                                   'sys.stdin.read()')
        program.stdout.readline()
        for options in ('-m', '-X dev -m', '-Xdev -m', '-Wd -W error -m',
                        '-W error -X utf8 -Bm', '-bbsO -X tracemalloc=3 -m',
                        '--check-hash-based-pycs always -m'):
            with self.subTest(options):
                self.check_top(program, *options.split(), 'pytracemalloc')
        self.check_top(program, '-W', 'error', '-mpytracemalloc')
        self.check_top(program, '-Bmpytracemalloc')
        self.check_top(program, '-m', 'pytracemalloc.__main__')
        program.communicate()
        top = self.start('-X', 'dev', '-m', 'pytracemalloc', 'top', self.path)
        _, errors = top.communicate(timeout=60)
        self.assertRegex(errors, r'\A.* no such socket; .*\n\Z')

    def check_top(self, program, *arguments):
        top = self.start(*arguments, 'top', '--once', self.path)
        output, errors = top.communicate(timeout=60)
        self.assertEqual((top.returncode, errors), (0, ''))
        self.assertTrue(output.startswith(f'{program.pid}  '), output)

    def test_programs_that_are_not_the_command(self):
        code = f'import os; print(os.path.exists({self.path!r}))'
        script = self.write(code)
        for arguments in (['-c', code, 'pytracemalloc'],
                          ['-c', code, '-m', 'pytracemalloc'],
                          [script, 'pytracemalloc'],
                          [script, '-m', 'pytracemalloc'],
                          ['-m', 'program', '-m', 'pytracemalloc'],
                          ['-W', 'ignore', '-', 'pytracemalloc']):
            with self.subTest(arguments):
                process = self.start(*arguments)
                output, errors = process.communicate(code, timeout=60)
                self.assertEqual((output, errors), ('True\n', ''))


if __name__ == '__main__':
    unittest.main()
