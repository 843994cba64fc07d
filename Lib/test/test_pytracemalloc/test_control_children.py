"""Whose the control socket is when a program has child processes, and that
the command `pytracemalloc` has none."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

from pytracemalloc.client import Client, find_socket


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


    # Each has its kind of blocks; they end when standard input does.
    FORKS = '''
        import os, sys, warnings
        warnings.simplefilter('ignore')
        kept = []
        def work(number):
            for _ in range(1000):
                kept.append(bytes(1000 * number))
            os.write(1, f'{os.getpid()}\\n'.encode())
            sys.stdin.buffer.read()
        for number in 1, 2, 3:
            if not os.fork():
                work(number)
                os._exit(0)
        for _ in range(3):
            os.wait()
        '''

    def start_workers(self, **options):
        """Return (process, directory of the sockets, ids of the workers)."""
        sockets = os.path.join(self.directory, 'sockets')
        os.mkdir(sockets)
        process = self.start('-X', 'tracemalloc=5', self.write(self.FORKS),
                             control=sockets, **options)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        workers = {int(process.stdout.readline()) for _ in range(3)}
        return process, sockets, workers

    def top(self, target):
        return subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'top', '--once',
             str(target)], capture_output=True, text=True, timeout=120)

    def test_forked_children_have_sockets(self):
        process, sockets, workers = self.start_workers()
        self.assertEqual(set(os.listdir(sockets)), {
            f'{worker}.sock' for worker in {*workers, process.pid}})
        for worker in workers:
            self.assertEqual(
                int(self.top(worker).stdout.split()[0]), worker)
        # They end by os._exit().
        process.communicate()
        self.assertEqual(os.listdir(sockets), [])

    def test_top_shows_all(self):
        process, sockets, workers = self.start_workers()
        page = self.top(sockets)
        self.assertEqual((page.returncode, page.stderr), (0, ''))
        lines = page.stdout.splitlines()
        self.assertEqual(lines[0], '4 processes, the largest first')
        self.assertEqual({int(line.split()[0]) for line in lines[2:6]},
                         {*workers, process.pid})
        # 1 + 2 + 3 million bytes, and a header of each block.
        self.assertRegex(page.stdout, r'\n +5\.\d MiB +3,0\d\d .*'
                                      r'program\.py:\d in work\n')
        self.assertRegex(lines[6], r'traced +\d')

    def test_top_passes_over_the_dead_and_the_next_start_removes_them(self):
        process, sockets, workers = self.start_workers()
        dead = workers.pop()
        os.kill(dead, signal.SIGKILL)
        self.assertTrue(os.path.exists(f'{sockets}/{dead}.sock'))
        self.assertIn('3 processes', self.wait_for_top(sockets, dead))
        self.start('-c', '', control=sockets).communicate()
        self.assertEqual(set(os.listdir(sockets)), {
            f'{worker}.sock' for worker in {*workers, process.pid}})

    def wait_for_top(self, sockets, dead):
        """The kernel needs a moment to end a process."""
        for _ in range(100):
            page = self.top(sockets).stdout
            if f' {dead} ' not in page:
                return page
        self.fail(page)

    def test_top_of_a_directory_without_sockets(self):
        for target in self.directory, self.write(''):
            page = self.top(target)
            self.assertEqual(page.returncode, 1)
            self.assertEqual(page.stderr.count('\n'), 1, page.stderr)
        self.assertIn('PYTRACEMALLOC_CONTROL=', self.top(
            self.directory).stderr)

    def test_child_may_ask_for_what_it_has(self):
        sockets = os.path.join(self.directory, 'sockets')
        os.mkdir(sockets)
        self.run_program('''
            import os, sys, warnings
            import pytracemalloc.control
            warnings.simplefilter('ignore')
            if not os.fork():
                server = pytracemalloc.control.serve(sys.argv[1])
                assert pytracemalloc.control.serve(sys.argv[1]) is server
                os._exit(0)
            assert os.wait()[1] == 0
            ''', sockets, control=sockets)

    def test_socket_that_the_program_made_is_found(self):
        process = self.start('-c', '''if 1:
            import os, socket, sys
            other = socket.socket(socket.AF_UNIX)
            other.bind('other.sock')
            other.listen()
            import pytracemalloc.control
            pytracemalloc.control.serve(sys.argv[1])
            del os.environ['PYTRACEMALLOC_CONTROL']
            print('ready', flush=True)
            sys.stdin.read()''', f'{self.directory}/own.sock',
            control='/nowhere/c.sock')
        self.addCleanup(process.communicate)
        process.stdout.readline()
        self.assertEqual(find_socket(process.pid),
                         (f'{self.directory}/own.sock', ''))
        self.assertEqual(self.top(process.pid).returncode, 0)


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
