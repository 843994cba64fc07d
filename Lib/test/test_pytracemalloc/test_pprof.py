"""The pprof profile: totals to the byte, read by a decoder of our own."""

import gzip
import re
import unittest

from pytracemalloc.reporters.pprof import SAMPLE_TYPES, encode
from pytracemalloc.tree import Tree
from test.test_pytracemalloc import support


def fields(data):
    """Yield (field number, int or bytes) of a protocol buffer message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size


def numbers(data):
    """The values of a packed field, as signed integers."""
    values = [value for _, value in fields(
        b''.join(b'\x08' + byte for byte in
                 re.findall(rb'[\x80-\xff]*[\x00-\x7f]', data, re.DOTALL)))]
    return [value - (1 << 64) if value >> 63 else value for value in values]


class Profile:
    def __init__(self, data):
        self.messages = {}
        for number, value in fields(gzip.decompress(data)):
            self.messages.setdefault(number, []).append(value)
        self.strings = [text.decode() for text in self.messages[6]]
        self.functions = {}
        for message in self.messages.get(5, ()):
            function = dict(fields(message))
            self.functions[function[1]] = (self.strings[function[2]],
                                           self.strings[function[4]],
                                           function[5])
        self.locations = {}
        for message in self.messages.get(4, ()):
            location = dict(fields(message))
            line = dict(fields(location[4]))
            self.locations[location[1]] = (*self.functions[line[1]], line[2])
        self.samples = list(map(self.sample, self.messages.get(2, ())))

    def sample(self, message):
        labels = {}
        for number, value in fields(message):
            if number == 1:
                stack = [self.locations[index] for index in numbers(value)]
            elif number == 2:
                values = numbers(value)
            else:
                label = dict(fields(value))
                labels[self.strings[label[1]]] = self.strings[label[2]]
        return stack, values, labels

    def totals(self):
        return [sum(column) for column
                in zip(*(values for _, values, _ in self.samples))]


class PprofTest(unittest.TestCase):
    def test_totals_are_exact(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot())))
        size, count, total_size, total_count = support.totals(
            support.NODES)[:4]
        self.assertEqual(profile.totals(),
                         [total_count, total_size, count, size])

    def test_go_values_in_go_order(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot())))
        types = [tuple(profile.strings[value] for _, value in fields(message))
                 for message in profile.messages[1]]
        self.assertEqual(types, list(SAMPLE_TYPES))
        self.assertEqual([kind[0] for kind in types],
                         ['alloc_objects', 'alloc_space', 'inuse_objects',
                          'inuse_space'])
        self.assertEqual(profile.messages[12], [1])
        self.assertEqual(profile.strings[0], '')

    def test_stacks_begin_with_the_most_recent(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot())))
        stack = next(stack for stack, values, _ in profile.samples
                     if 2900 in values)
        self.assertEqual(stack, [('Shop.load', '/app/shop.py', 5, 7),
                                 ('main', '/app/main.py', 10, 12),
                                 ('<module>', '/app/main.py', 1, 30)])

    def test_types_are_labels(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot())))
        found = {labels['type']: values[2:]
                 for _, values, labels in profile.samples if 'type' in labels}
        self.assertEqual(found, {'dict': [29, 2900], 'list': [2, 2000],
                                 'str': [9, 900]})

    def test_threads_are_labels(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot(
            support.THREADS, [(5, 'dict', 20, 2)]))))
        found = {(stack[0][0], labels.get('thread'), labels.get('type')):
                 values[3] for stack, values, labels in profile.samples}
        self.assertEqual(found, {
            ('Thread._bootstrap_inner', None, None): 5,
            ('work', 'work', 'dict'): 20, ('work', 'work', None): 80,
            ('join', 'work', None): 7,
            ('<module>', 'MainThread', None): 900,
            ('callback', None, None): 3})

    def test_threads_of_cut_tracebacks(self):
        nodes = [(-1, '/x/app.py', 5, '<module>', 1, 1, 1, 1, 1, 1, 1, 0, 0),
                 (0, '/x/app.py', 9, 'f', 8, 2, 1, 2, 1, 2, 1, 0, 0)]
        snapshot = support.Snapshot(nodes, ())
        for limit, threads in ((1, [None, 'MainThread']),
                               (2, ['MainThread', None]),
                               (3, ['MainThread', 'MainThread'])):
            snapshot.traceback_limit = limit
            self.assertEqual(Tree.from_snapshot(snapshot).threads(), threads)

    def test_difference_has_a_base(self):
        old, new = support.older(), support.Snapshot()
        profile = Profile(encode(Tree.from_difference(old, new)))
        base = [values[3] for _, values, labels in profile.samples
                if labels.get('pprof::base') == 'true']
        self.assertEqual(sum(base), -old.traced_memory[0])
        self.assertEqual(profile.totals()[3],
                         new.traced_memory[0] - old.traced_memory[0])

    def test_subtracted_difference(self):
        old, new = support.older(), support.Snapshot()
        profile = Profile(encode(Tree.from_difference(old, new),
                                 subtract=True))
        self.assertFalse(any('pprof::base' in labels
                             for _, _, labels in profile.samples))
        self.assertEqual(profile.totals()[3],
                         new.traced_memory[0] - old.traced_memory[0])
        gone = next(values for stack, values, _ in profile.samples
                    if stack[0][0] == 'gone')
        self.assertEqual(gone, [-6, -60, -6, -60])

    def test_large_and_strange(self):
        nodes = [(-1, 'a\ud800.py', 2**31 - 1, 'f', 0, 2**62, 1, 2**62, 1,
                  0, 0, 0, 0)]
        profile = Profile(encode(Tree.from_snapshot(
            support.Snapshot(nodes, ()))))
        self.assertEqual(profile.totals(), [1, 2**62, 1, 2**62])
        self.assertEqual(profile.samples[0][0],
                         [('f', 'a\\ud800.py', 0, 2**31 - 1)])

    def test_empty(self):
        profile = Profile(encode(Tree.from_snapshot(support.Snapshot([], ()))))
        self.assertEqual(profile.samples, [])


if __name__ == '__main__':
    unittest.main()
