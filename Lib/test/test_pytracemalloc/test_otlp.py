"""OTLP's profiles: the figures of the snapshot to the byte, decoded by the
package that OpenTelemetry publishes."""

import os
import subprocess
import sys
import types
import unittest
from collections import Counter

import tracemalloc
from pytracemalloc.reporters import otlp, pprof
from pytracemalloc.tree import Tree
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.otlp_case import Message, import_messages
from test.test_pytracemalloc.test_pprof import Profile

PROGRAM = '''\
import threading
def keep(count):
    return [bytes(1000) for _ in range(count)]
kept = keep(100)
gone = keep(50)
del gone
def work():
    global more
    more = [str(number) for number in range(1000)]
thread = threading.Thread(target=work)
thread.start()
thread.join()
'''
NAMES = ['inuse_space', 'inuse_objects', 'alloc_space', 'alloc_objects']


class OtlpTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        cls.packages = import_messages(cls)
        cls.path = cls.make_app(PROGRAM)
        cls.file = os.path.join(cls.source, 'app.tracemalloc')
        command('run', '-q', '-n', '20', '-o', cls.file, cls.path, check=True)
        cls.snapshot = tracemalloc.Snapshot.load(cls.file)
        cls.tree = Tree.from_snapshot(cls.snapshot)
        cls.message = Message(otlp.encode(cls.tree, cls.snapshot.timestamp))

    def test_like_pprof(self):
        # A decoder of our own reads the other format, with Go's four values.
        self.assertEqual(self.message.names, NAMES)
        expected = [Counter() for _ in pprof.SAMPLE_TYPES]
        for stack, values, labels in Profile(pprof.encode(self.tree)).samples:
            labels['thread.name'] = labels.pop('thread', None)
            key = (tuple((name, file, first, line) for name, file, first, line
                         in stack),
                   frozenset(item for item in labels.items() if item[1]))
            for counter, value in zip(expected, values):
                counter[key] += value
        for (name, _), counter in zip(pprof.SAMPLE_TYPES, expected):
            found = Counter()
            for stack, value, attributes in self.message.samples(name):
                found[tuple(stack), frozenset(attributes.items())] += value
            self.assertEqual(found, +counter, name)
        self.assertEqual(sum(sample.value for sample in
                             self.message.samples('inuse_space')),
                         self.snapshot.traced_memory[0])

    def test_stacks_types_and_threads(self):
        samples = self.message.samples('inuse_space')
        kept, = [sample for sample in samples
                 if sample.attributes.get('type') == 'bytes'
                 and sample.value > 100_000]
        self.assertEqual([frame[::3] for frame in kept.stack],
                         [('keep', 3), ('<module>', 4)])
        self.assertEqual({frame[1] for frame in kept.stack}, {self.path})
        self.assertEqual(kept.attributes, {'thread.name': 'MainThread',
                                           'type': 'bytes'})
        self.assertIn({'thread.name': 'work', 'type': 'str'},
                      [sample.attributes for sample in samples])

    def test_tables(self):
        dictionary = self.message.dictionary
        for name in ('mapping', 'location', 'function', 'link', 'attribute',
                     'stack'):
            table = getattr(dictionary, f'{name}_table')
            self.assertEqual(table[0].ByteSize(), 0, name)
            items = [item.SerializeToString() for item in table]
            self.assertEqual(len({*items}), len(items), name)
        self.assertEqual(self.message.strings[0], '')
        self.assertEqual(len({*self.message.strings}),
                         len(self.message.strings))
        # No item without a reference to it.
        self.assertEqual({sample.stack_index for profile in
                          self.message.profiles for sample in profile.samples},
                         {*range(1, len(dictionary.stack_table))})
        self.assertEqual({attribute for location in dictionary.location_table
                          for attribute in location.attribute_indices
                          if not location.mapping_index},
                         {1 + [*map(self.attribute, range(1, len(
                             dictionary.attribute_table)))].index(
                                 {'profile.frame.type': 'cpython'})})
        self.assertEqual(self.message.scope, 'pytracemalloc')
        for profile in self.message.profiles:
            self.assertEqual(profile.period, 1)
            self.assertAlmostEqual(profile.time_unix_nano / 1e9,
                                   self.snapshot.timestamp.timestamp(), 3)

    def attribute(self, number):
        return self.message.attributes([number])

    def test_resource(self):
        data = otlp.encode(self.tree, resource=[('service.name', 'shop'),
                                                ('process.pid', 12)])
        self.assertEqual(Message(data).resource,
                         {'service.name': 'shop', 'process.pid': 12})
        self.assertEqual(self.message.resource, {})

    def test_names_that_are_no_text(self):
        tree = Tree()
        tree._node(-1, ('/a\udc80.py', 3, 'f', 1))
        for column in tree.values.values():
            column.append(5)
        sample, = Message(otlp.encode(tree)).samples('alloc_objects')
        self.assertEqual(sample.stack, [('f', '/a\\udc80.py', 1, 3)])

    def test_c_frames(self):
        tree = Tree()
        node = tree._node(-1, ('a.py', 3, 'f', 1))
        for offset, function in (0x1235, None), (0x2345, 'parse'):
            node = tree._node(node, ('libx.so', 0, function, 0))
            tree.native[tree.frames[node]] = types.SimpleNamespace(
                module='libx.so', build_id='abcd', offset=offset,
                function=function, filename='parse.c', lineno=7)
        for column in tree.values.values():
            column += [0, 0, 5]
        message = Message(otlp.encode(tree))
        sample, = message.samples('inuse_space')
        # The call, not the address to which it returns.
        self.assertEqual(sample.stack, [('libx.so', 'abcd', 0x2344),
                                        ('libx.so', 'abcd', 0x1234),
                                        ('f', 'a.py', 1, 3)])
        parse, unknown, _ = (message.dictionary.location_table[number] for
                             number in message.dictionary.stack_table[1]
                             .location_indices)
        self.assertEqual(len(unknown.lines), 0)
        line, = parse.lines
        function = message.dictionary.function_table[line.function_index]
        self.assertEqual((message.strings[function.name_strindex], line.line),
                         ('parse', 7))
        self.assertEqual(message.attributes(parse.attribute_indices),
                         {'profile.frame.type': 'native'})

    def test_report_and_diff(self):
        options = {'env': os.environ | {'PYTHONPATH': self.packages},
                   'check': True}
        command('report', self.file, '-o', 'a.otlp', **options)
        with open('a.otlp', 'rb') as file:
            self.assertEqual(
                sorted(Message(file.read()).samples('inuse_space'), key=str),
                sorted(self.message.samples('inuse_space'), key=str))
        with open('later.py', 'w') as file:
            file.write(PROGRAM.replace('keep(100)', 'keep(70)'))
        os.replace('later.py', self.path)
        command('run', '-q', '-n', '20', '-o', 'new', self.path, check=True)
        command('diff', self.file, 'new', '-o', 'b.otlp', **options)
        with open('b.otlp', 'rb') as file:
            change = [sample for sample in
                      Message(file.read()).samples('inuse_objects')
                      if sample.stack[0][:2] == ('keep', self.path)]
        self.assertEqual(sum(sample.value for sample in change), -30)

    def test_without_the_package(self):
        done = subprocess.run(
            [sys.executable, '-I', '-m', 'pytracemalloc', 'report', self.file,
             '-o', 'a.otlp'], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r'^pytracemalloc: OTLP needs the package '
                         r'opentelemetry-proto, .*: .* -m pip install .*\n$')
        self.assertFalse(os.path.exists('a.otlp'))


if __name__ == '__main__':
    unittest.main()
