"""Tests of the container image; Tools/image/check starts them.

They run under any Python from 3.10, outside the image, and see it as a user
does: through the engine's command line. Doc/howto/container.rst is a test as
well:
test_howto runs the page's commands from top to bottom.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
ENGINE = os.environ['IMAGE_ENGINE']
IMAGE = os.environ['IMAGE']
LARGEST = 110_000_000           # bytes beyond the base
CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'


def run(command, status=0):
    """Run a command and return its output; fail if it ends with another."""
    result = subprocess.run(command, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != status:
        raise AssertionError(f'{" ".join(command)}: exit status '
                             f'{result.returncode}\n{result.stdout}')
    return result.stdout


def run_command():
    """For any processor: the engine warns of another than its own."""
    return [ENGINE, 'run', '--pull=never',
            f'--platform=linux/{inspect(IMAGE)["Architecture"]}']


def in_image(*command, options=(), status=0):
    return run([*run_command(), '--rm', *options, IMAGE, *command], status)


def python(code, *interpreter_options, options=()):
    return in_image('python', *interpreter_options, '-c', code,
                    options=options)


def inspect(image):
    data, = json.loads(run([ENGINE, 'image', 'inspect', image]))
    return data


def base_of(image):
    labels = inspect(image)['Config']['Labels']
    return labels['org.opencontainers.image.base.name']


class Container:
    """A container in the background; a context manager."""

    def __init__(self, *command, options=()):
        self.id = run([*run_command(), '-d', *options, IMAGE,
                       *command]).split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        subprocess.run([ENGINE, 'rm', '-f', self.id], capture_output=True)

    def wait_for_output(self, text):
        deadline = time.monotonic() + 30
        while text not in (output := run([ENGINE, 'logs', self.id])):
            if time.monotonic() > deadline:
                raise AssertionError(f'no {text!r} in {output!r}')
            time.sleep(0.05)

    def end(self, *command):
        """End it by `ENGINE COMMAND`; return exit status and seconds."""
        start = time.monotonic()
        run([ENGINE, *command, self.id])
        return (int(run([ENGINE, 'wait', self.id])),
                time.monotonic() - start)


class PromiseTests(unittest.TestCase):
    """What is in the image."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        # Whoever runs in the container can write there.
        self.folder.chmod(0o777)
        self.volume = ['-v', f'{self.folder}:/data']

    def test_labels(self):
        config = inspect(IMAGE)['Config']
        labels = config['Labels']
        image = 'org.opencontainers.image'
        self.assertEqual(labels[f'{image}.version'],
                         os.environ['PYTRACEMALLOC_VERSION'])
        self.assertEqual(labels['org.pytracemalloc.freelists'],
                         os.environ['PYTRACEMALLOC_FREELISTS'])
        self.assertIn('PSF-2.0', labels[f'{image}.licenses'])
        self.assertRegex(labels[f'{image}.source'],
                         r'^(https?://|pytracemalloc-[\d.]+\.tar\.xz$)')
        self.assertEqual(config['StopSignal'], 'SIGINT')
        version = in_image('python', '-VV')
        self.assertTrue(version.startswith(
            f'Python {labels["org.pytracemalloc.python-version"]} '
            f'(pytracemalloc {labels[f"{image}.version"]} '
            f'freelists={labels["org.pytracemalloc.freelists"]},'), version)

    def test_size(self):
        size = inspect(IMAGE)['Size']
        base = inspect(base_of(IMAGE))['Size']
        print(f'{(size - base) / 1e6:.0f} MB beyond the base of '
              f'{base / 1e6:.0f} MB')
        self.assertLess(size - base, LARGEST)

    def test_commands(self):
        for command in 'python', 'python3', 'pip', 'pytracemalloc':
            path = in_image('sh', '-c', f'command -v {command}')
            self.assertEqual(path, f'/opt/mypython/bin/{command}\n')
            in_image(command, '--help')

    def test_modules(self):
        """All that CPython builds can be imported, but for Tk."""
        self.assertEqual(python(
            'import importlib, os, sys, sysconfig\n'
            'here = sysconfig.get_path("stdlib") + "/lib-dynload"\n'
            'names = [name.partition(".")[0] for name in os.listdir(here)]\n'
            'wanted = {"_ssl", "_sqlite3", "_ctypes", "_bz2", "_lzma",\n'
            '    "readline", "_curses", "_gdbm", "_uuid", "_hashlib"}\n'
            'print(wanted - set(names))\n'
            'for name in names:\n'
            '    importlib.import_module(name)\n'
            'import zoneinfo; zoneinfo.ZoneInfo("Europe/Paris")\n'
            'import ssl; assert ssl.create_default_context().get_ca_certs()'),
            'set()\n')

    def test_licences(self):
        text = in_image(
            'cat', '/opt/mypython/share/pytracemalloc/LICENSE',
            '/opt/mypython/lib/python3.14/LICENSE.txt')
        self.assertIn('MIT License', text)
        self.assertIn('PYTHON SOFTWARE FOUNDATION LICENSE', text)

    def test_tracing_at_start(self):
        code = ('import tracemalloc as t; print(t.is_tracing(), '
                't.get_traceback_limit())')
        self.assertEqual(python(code), 'False 1\n')
        self.assertEqual(python(code, '-X', 'tracemalloc=7'), 'True 7\n')
        self.assertEqual(
            python(code, options=['-e', 'PYTHONTRACEMALLOC=25']), 'True 25\n')

    def test_demo(self):
        output = in_image('pytracemalloc', 'demo', '-o', '/tmp/demo')
        self.assertRegex(output, r'shop\.py:\d+ in Session\.__init__\n')
        self.assertIn('\nThe page: /tmp/demo/shop.html\n', output)

    def test_wheel_with_c_code(self):
        """One from PyPI, as the machine's pip would get it."""
        options = ['--network=host']
        if os.path.exists(CERTIFICATES):
            options += ['-v', f'{CERTIFICATES}:{CERTIFICATES}:ro',
                        '-e', f'PIP_CERT={CERTIFICATES}']
        options += [f'-e{name}' for name in os.environ
                    if name.startswith('PIP_')
                    and name not in ('PIP_CERT', 'PIP_FIND_LINKS')]
        output = in_image(
            'sh', '-c', 'pip install --quiet --no-cache-dir '
            '--only-binary=:all: markupsafe && python -X tracemalloc -c '
            '"from markupsafe import _speedups as c; import markupsafe as m;'
            ' print(c.__file__, m.escape(chr(60)))"', options=options)
        self.assertRegex(output.splitlines()[-1],
                         r'/_speedups\.cpython-314-\S+\.so &lt;$')

    def test_user_is_not_root(self):
        self.assertEqual(inspect(IMAGE)['Config']['User'], '1000:1000')
        self.assertEqual(in_image('id', '-un'), 'python\n')
        self.assertEqual(in_image('find', '/opt/mypython', '-writable', '!',
                                  '-type', 'l'), '')

    def test_another_user(self):
        """A number without a name finds packages, and can write snapshots."""
        self.assertEqual(in_image(
            'sh', '-c', 'python -m site --user-base && '
            'pytracemalloc run -q -o /tracemalloc/a.tracemalloc -c pass && '
            'ls /tracemalloc', options=['--user', '23456:0']),
            '/home/python/.local\na.tracemalloc\n')

    def test_read_only(self):
        """No writable file system but /tmp, no capabilities."""
        in_image('pytracemalloc', 'run', '-o', '/tmp/a.tracemalloc', '-c',
                 'x = [bytes(99) for _ in range(99)]', options=[
                     '--read-only', '--tmpfs', '/tmp', '--cap-drop=ALL',
                     '--security-opt=no-new-privileges'])

    def test_exit_status(self):
        in_image('python', '-c', 'raise SystemExit(42)', status=42)
        in_image('pytracemalloc', 'run', '-q', '-o', '/dev/null', '-c',
                 'raise SystemExit(42)', status=42)

    def test_signals(self):
        """A signal reaches the program, and its status the engine."""
        code = ('import signal, sys, time\n'
                'signal.signal(signal.SIGTERM, lambda *args: sys.exit(7))\n'
                'print("ready", flush=True)\n'
                'time.sleep(60)')
        with Container('python', '-c', code) as container:
            container.wait_for_output('ready')
            status, _ = container.end('kill', '--signal=TERM')
            self.assertEqual(status, 7)

    def test_stop(self):
        """The engine's stop ends a program in order, with a snapshot."""
        code = 'import time; print("ready", flush=True); time.sleep(60)'
        with Container('pytracemalloc', 'run', '-o', '/data/a.tracemalloc',
                       '-c', code, options=self.volume) as container:
            container.wait_for_output('ready')
            status, seconds = container.end('stop')
            self.assertEqual(status, 130)
            self.assertLess(seconds, 9)
        self.assertTrue((self.folder / 'a.tracemalloc').stat().st_size)

    def test_byte_code(self):
        """Byte code goes by the hash of its source, and has the right one."""
        self.assertEqual(python(
            'import importlib.util as util, pathlib, sysconfig\n'
            'count = 0\n'
            'library = pathlib.Path(sysconfig.get_path("stdlib"))\n'
            'for source in library.rglob("*.py"):\n'
            '    data = open(util.cache_from_source(source), "rb").read()\n'
            '    assert data[:4] == util.MAGIC_NUMBER, source\n'
            '    assert data[4:8] == bytes([1, 0, 0, 0]), source\n'
            '    assert data[8:16] == util.source_hash(\n'
            '        source.read_bytes()), source\n'
            '    count += 1\n'
            'print(count > 500)'), 'True\n')
        self.assertNotIn('bytecode is stale', in_image(
            'python', '-v', '-c', 'import json'))


class HowtoTest(unittest.TestCase):

    def test_howto(self):
        import howto
        with tempfile.TemporaryDirectory() as folder:
            howto.run(TOP / 'Doc' / 'howto' / 'container.rst',
                      pathlib.Path(folder), ENGINE, IMAGE, base_of(IMAGE))


if __name__ == '__main__':
    sys.path.insert(0, str(TOP / 'Lib' / 'test' / 'test_pytracemalloc'))
    unittest.main(verbosity=2)
