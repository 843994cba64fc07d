"""pytracemalloc push: what a receiver gets, and every way to fail."""

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.otlp_case import (
    Message, import_messages, start_receiver)

PROGRAM = '''\
import sys
def keep(count):
    return [bytes(1000) for _ in range(count)]
kept = keep(1000)
print('ready', flush=True)
for line in sys.stdin:
    kept += keep(int(line))
    print('done', flush=True)
'''


class PushTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        cls.packages = import_messages(cls)
        cls.path = cls.make_app(PROGRAM)

    def setUp(self):
        super().setUp()
        self.server = start_receiver(self)
        self.url = self.server.url
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith('OTEL_')
                            and not name.lower().endswith('_proxy')} | {
            'PYTHONPATH': self.packages, 'TMPDIR': self.directory}

    def start(self, name='c.sock'):
        program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=full', '-X',
             f'tracemalloc_control={name}', self.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(program.communicate)
        self.assertEqual(program.stdout.readline(), 'ready\n')
        return program

    def push(self, *args, answers=((200, {}, b''),), **environment):
        self.server.answers += answers
        return command('push', *args, env=self.environment | environment)

    def refused(self, status, pattern, *args, **options):
        done = self.push(*args, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
        self.assertRegex(done.stderr, pattern)

    def messages(self):
        return [Message(gzip.decompress(body))
                for _, _, body in self.server.received]

    def live(self, message, **attributes):
        """Return the bytes that keep() has taken."""
        return sum(sample.value for sample in message.samples('inuse_space')
                   if sample.stack[0][:2] == ('keep', self.path)
                   and attributes.items() <= sample.attributes.items())

    def test_once(self):
        program = self.start()
        done = self.push('c.sock', self.url, '--once')
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, '', ''))
        (path, headers, _), = self.server.received
        self.assertEqual(path, '/v1development/profiles')
        self.assertEqual(headers['Content-Type'], 'application/x-protobuf')
        message, = self.messages()
        # The bytes and their list.
        self.assertAlmostEqual(self.live(message), 1000 * (1033 + 8),
                               delta=1000)
        self.assertEqual(message.resource['process.pid'], program.pid)
        self.assertRegex(message.resource['process.command_line'],
                         f'{self.path}$')
        self.assertRegex(message.resource['service.name'],
                         '^unknown_service:python')
        # Without --types, the program copies no blocks.
        self.assertNotIn('type', [name for sample in
                                  message.samples('inuse_space')
                                  for name in sample.attributes])
        self.assertEqual(os.listdir(), ['c.sock'])

    def test_types(self):
        self.start()
        self.push('c.sock', self.url, '--once', '--types')
        self.assertIn({'thread.name': 'MainThread', 'type': 'bytes'},
                      [sample.attributes for sample in
                       self.messages()[0].samples('inuse_space')])

    def test_environment(self):
        self.start()
        for variables, path, headers, resource in (
                ({'OTEL_EXPORTER_OTLP_ENDPOINT': self.url + '/base/'},
                 '/base/v1development/profiles', {}, {}),
                ({'OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT': self.url + '/here',
                  'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://[',
                  'OTEL_EXPORTER_OTLP_HEADERS': 'x-key=a%20b, y=2'},
                 '/here', {'x-key': 'a b', 'y': '2'}, {}),
                ({'OTEL_EXPORTER_OTLP_ENDPOINT': self.url,
                  'OTEL_SERVICE_NAME': 'shop', 'OTEL_RESOURCE_ATTRIBUTES':
                  'service.version=7,k8s.pod.name=shop-1,service.name=no'},
                 '/v1development/profiles', {},
                 {'service.name': 'shop', 'service.version': '7',
                  'k8s.pod.name': 'shop-1'})):
            with self.subTest(variables):
                self.server.received.clear()
                done = self.push('c.sock', '--once', **variables)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                (asked, got, _), = self.server.received
                self.assertEqual(asked, path)
                self.assertLessEqual(headers.items(),
                                     {name.lower(): value for name, value
                                      in got.items()}.items())
                self.assertLessEqual(resource.items(),
                                     self.messages()[0].resource.items())
        self.push('c.sock', self.url, '--once', '--service', 'mine',
                  OTEL_SERVICE_NAME='shop')
        self.assertEqual(self.messages()[-1].resource['service.name'], 'mine')

    def test_directory(self):
        os.mkdir('shop')
        pids = {self.start(f'shop/{name}.sock').pid for name in 'ab'}
        self.push('shop', self.url, '--once', answers=[(200, {}, b'')] * 2)
        self.assertEqual({message.resource['process.pid']
                          for message in self.messages()}, pids)

    def test_goes_on(self):
        program = self.start()
        self.server.answers += [(200, {}, b''), (503, {}, b'later')]
        pusher = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'push', str(program.pid),
             self.url, '--types', '--interval', '1'], env=self.environment,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(pusher.communicate)
        self.addCleanup(pusher.kill)
        program.stdin.write('500\n')
        program.stdin.flush()
        self.assertEqual(program.stdout.readline(), 'done\n')
        self.assertRegex(pusher.stderr.readline(),
                         r'^pytracemalloc: .*: 503 Service Unavailable; trying '
                         r'again in 1 seconds\n$')
        while len(self.server.received) < 3:
            time.sleep(0.1)
        self.assertEqual([self.live(message, type='bytes') for message in
                          self.messages()[1:3]], [1500 * 1033] * 2)
        program.communicate()
        _, errors = pusher.communicate(timeout=60)
        self.assertEqual(pusher.returncode, 1)
        self.assertEqual(errors.count('\n'), 1, errors)
        self.assertIn(str(program.pid), errors)

    def test_terminated(self):
        # A receiver that does not answer: the snapshot is removed.
        program = self.start()
        hanging = threading.Event()
        self.addCleanup(hanging.set)
        self.server.answers = _Hanging(hanging)
        pusher = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'push', str(program.pid),
             self.url], env=self.environment, stderr=subprocess.PIPE)
        while not self.server.received:
            time.sleep(0.1)
        pusher.send_signal(signal.SIGTERM)
        _, errors = pusher.communicate(timeout=60)
        self.assertEqual((pusher.returncode, errors),
                         (128 + signal.SIGTERM, b''))
        self.assertEqual(os.listdir(), ['c.sock'])

    def test_refused(self):
        from opentelemetry.proto.collector.profiles.v1development import (
            profiles_service_pb2 as service)
        self.start()
        partial = service.ExportProfilesServiceResponse()
        partial.partial_success.rejected_profiles = 4
        partial.partial_success.error_message = 'too \x1b[31mlarge'
        for pattern, answer in (
                ('404 Not Found$', (404, {}, b'')),
                ('301 Moved', (301, {'Location': self.url}, b'')),
                ('no answer of an OTLP receiver', (200, {}, b'<html>')),
                (r'4 profiles were refused: too \\x1b\[31mlarge$',
                 (200, {}, partial.SerializeToString()))):
            with self.subTest(pattern):
                self.refused(1, pattern, 'c.sock', self.url, '--once',
                             answers=[answer])
        self.refused(1, 'Connection refused', 'c.sock', 'http://127.0.0.1:1',
                     '--once', answers=())
        self.assertEqual(os.listdir(), ['c.sock'])

    def test_bad_input(self):
        program = self.start()
        for status, pattern, args, variables in (
                (2, 'no URL of a receiver; .* OTEL_EXPORTER_OTLP_ENDPOINT',
                 ['c.sock'], {}),
                (2, 'file:///x: give the URL of', ['c.sock', 'file:///x'], {}),
                (2, 'http://: give the URL', ['c.sock', 'http://'], {}),
                (2, 'http://a:b: ', ['c.sock', 'http://a:b'], {}),
                (2, "OTEL_EXPORTER_OTLP_HEADERS: 'x' is not NAME=VALUE",
                 ['c.sock', self.url], {'OTEL_EXPORTER_OTLP_HEADERS': 'x'}),
                (2, "HEADERS: 'x=%0aHost: b' is not",
                 ['c.sock', self.url],
                 {'OTEL_EXPORTER_OTLP_HEADERS': 'x=%0aHost: b'}),
                (2, "OTEL_RESOURCE_ATTRIBUTES: '=1' is not",
                 ['c.sock', self.url], {'OTEL_RESOURCE_ATTRIBUTES': '=1'}),
                (1, 'is the program running', ['d.sock', self.url], {}),
                (1, 'OTLP needs the package', ['c.sock', self.url],
                 {'PYTHONPATH': ''})):
            with self.subTest(pattern):
                self.refused(status, pattern, *args, '--once', **variables)
        command('stop', 'c.sock', check=True)
        self.refused(1, f'process {program.pid} is not traced', 'c.sock',
                     self.url, '--once')
        self.assertEqual(self.server.received, [])


class _Hanging(list):
    """An answer that does not come before the event."""

    def __init__(self, event):
        super().__init__([(200, {}, b'')])
        self.event = event

    def pop(self, *args):
        self.event.wait()
        return super().pop(*args)


if __name__ == '__main__':
    unittest.main()
