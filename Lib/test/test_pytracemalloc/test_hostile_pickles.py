"""Pickles that ask for exponential time, endless memory or code: each is an
ordinary error, soon.  Those of every protocol still load."""

import datetime
import os
import pickle
import random
import struct
import sys
import tempfile
import time
import unittest
from unittest import mock

import tracemalloc
from test.test_pytracemalloc.load_memory import check_memory, counts_memory
from test.test_pytracemalloc.support import RAW
from tracemalloc import Snapshot

DATA_091 = {'format_version': (0, 9), 'pid': 123,
            'timestamp': '2013-06-01 18:51:48',
            'stats': {'a.py': {1: (100, 2), None: (5, 1)},
                      'b.py': {7: (50, 3)}},
            'process_memory': 10_000,
            'user_data': [('Video memory', 'size', 234902)]}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

PROTO = b'\x80\4'
TRACES = b'ctracemalloc\n_Traces\n)\x81}'
SNAPSHOT = b'ctracemalloc\nSnapshot\n)\x81}'


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return b'X' + struct.pack('<I', len(data)) + data


def with_attribute(value):
    """A snapshot that has the opcodes of a value as an attribute."""
    return (PROTO + SNAPSHOT + b'(' + text('traces') + TRACES
            + text('_traces') + b']sb' + text('traceback_limit') + b'K\1'
            + text('x') + value + b'ub.')


def doubled(times, first=b')'):
    """A tuple of twice a tuple of twice ...; its memo numbers begin at 0."""
    opcodes = first + b'\x94'
    for number in range(times):
        opcodes += b'h' + bytes([number]) + b'\x86\x94'
        if not number:
            opcodes = first + b'\x94h\0\x86\x94'
    return opcodes


def stock(data, attributes=(), protocol=pickle.HIGHEST_PROTOCOL,
          dumps=pickle.dumps):
    """As the standard library pickles a snapshot with these traces."""
    shell = type('Snapshot', (), {'__module__': 'tracemalloc'})
    inner = type('_Traces', (), {'__module__': 'tracemalloc'})
    snapshot, traces = shell(), inner()
    traces._traces = data
    snapshot.traces, snapshot.traceback_limit = traces, 2
    vars(snapshot).update(attributes)
    with mock.patch.object(tracemalloc, 'Snapshot', shell), \
            mock.patch.object(tracemalloc, '_Traces', inner):
        return dumps(snapshot, protocol)


class Case(unittest.TestCase):
    def setUp(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(directory, 'x.pickle')

    def load(self, image):
        with open(self.path, 'wb') as file:
            file.write(image)
        return Snapshot.load(self.path)

    def rejects(self, image, pattern='not a snapshot file'):
        """In a time that is in proportion to the size, and to little more."""
        start = time.process_time()
        with self.assertRaisesRegex(ValueError, pattern) as caught:
            self.load(image)
        self.assertLess(len(str(caught.exception)), 1000)
        self.in_time(start, image)

    def in_time(self, start, image):
        self.assertLess(time.process_time() - start,
                        1 + 2e-6 * len(image))


class WorkTest(Case):
    def test_tuples_as_a_key(self):
        key = doubled(60)
        self.assertLess(len(key), 250)
        for image in (PROTO + b'}' + key + b'Ns.',
                      PROTO + b'}(' + key + b'Nu.',
                      PROTO + b'(' + key + b'Nd.',
                      PROTO + b'\x8f(' + key + b'\x90.',
                      PROTO + b'(' + key + b'\x91.',
                      with_attribute(b'}' + key + b'Ns')):
            self.rejects(image, 'key that no snapshot has at offset')
        # A trace has no such frames, and they are not looked at.
        self.rejects(PROTO + SNAPSHOT + text('traces') + TRACES
                     + text('_traces') + b']K\0K\1' + key + b'\x87asbs'
                     + text('traceback_limit') + b'K\1sb.', 'frame must be')

    def test_values_that_are_shared(self):
        self.rejects(with_attribute(doubled(60)), 'values too large')
        laughs = b'](]\x94'
        for number in range(20):
            laughs += b'](' + (b'h' + bytes([number])) * 50 + b'e\x94'
        self.rejects(with_attribute(laughs + b'e'), 'values too large')
        one = text('x' * 100_000) + b'\x94'
        self.rejects(with_attribute(b'](' + one + b'h\0' * 100_000 + b'e'),
                     'values too large')
        many = b'}(' + text('k') + b']\x94(' + b'N' * 1000 + b'e'
        for number in range(3000):
            many += text(f'k{number}') + b'h\0'
        self.rejects(with_attribute(many + b'u'), 'values too large')

    def test_sharing_that_is_usual(self):
        name = '/usr/lib/python3.13/site-packages/x.py'
        rows = [(name, number, ('a', 'b')) for number in range(10_000)]
        self.assertEqual(self.load(stock(RAW, {'x': rows})).x, rows)
        # Traces share what they like.
        frames = tuple((name, number) for number in range(1000))
        loaded = self.load(stock([(0, 1, frames, 1000)] * 10_000))
        self.assertEqual(len(loaded.traces), 10_000)

    def test_depth(self):
        count = 1_000_000
        for opcodes in (b')' + b'\x85' * count, b']' * count + b'a' * count,
                        b'(' * count + b't' * count,
                        b'(' * count + b'l' * count,
                        (b'}' + text('k')) * count + b'N' + b's' * count,
                        b'(' * count + b')' + b'\x91' * count):
            self.rejects(PROTO + opcodes + b'.', 'nested|containers|key that')
            self.rejects(with_attribute(opcodes),
                         'nested|containers|key that')
        deep = ()
        for _ in range(90):
            deep = deep,
        self.assertEqual(self.load(stock(RAW, {'x': deep})).x, deep)

    def test_keys_that_collide(self):
        """What has the same hash is compared with all that has."""
        modulus = sys.hash_info.modulus
        for keys in ([b'\x8a\x0a' + (number * modulus).to_bytes(10, 'little')
                      for number in range(30_000)],
                     [b'K\1J' + number.to_bytes(4, 'little') + b'\x86'
                      for number in range(30_000)],
                     [b'G' + struct.pack('>d', 2.0 ** (61 * number))
                      for number in range(16)] * 2000):
            for opcodes in (b'(' + b'N'.join(keys) + b'Nd.',
                            b'}(' + b'N'.join(keys) + b'Nu.',
                            b'\x8f(' + b''.join(keys) + b'\x90.',
                            b'(' + b''.join(keys) + b'\x91.'):
                self.rejects(PROTO + opcodes, 'too many keys|there already')
        self.rejects(pickle.dumps(dict.fromkeys(range(5000))), 'too many keys')
        self.rejects(pickle.dumps({*range(5000)}), 'too many keys')
        lines = {'a.py': {number * 7: (1, 1) for number in range(4000)}}
        loaded = self.load(pickle.dumps(DATA_091 | {'stats': lines}))
        self.assertEqual(len(loaded.statistics('lineno')), 4000)

    def test_long_texts_that_are_equal(self):
        """Each comparison would take as long as the text."""
        long = 'x' * 3_000_000
        number = 200_000
        frames = b'(K\0K\1(h\0M\1\0\x86h\1M\1\0\x86tNt' * number
        image = (PROTO + SNAPSHOT + b'(' + text('names') + text(long)
                 + b'\x94' + text('more') + text(long) + b'\x94'
                 + text('traces') + TRACES + text('_traces') + b'](' + frames
                 + b'esb' + text('traceback_limit') + b'K\1ub.')
        start = time.process_time()
        self.assertEqual(len(self.load(image).traces), number)
        self.in_time(start, image)
        # The same key again and again.
        self.rejects(PROTO + b'(' + text(long) + b'\x94' + text(long)
                     + b'\x94d}(' + b'h\0Nh\1N' * 1000 + b'u.',
                     'there already')

    def test_numbers(self):
        for opcodes in (b'\x8b\x00\x10\0\0' + b'\x7f' * 4096,
                        b'I' + b'9' * 1_000_000 + b'\n',
                        b'L' + b'9' * 1_000_000 + b'L\n',
                        b'F' + b'9' * 1_000_000 + b'\n',
                        b'Ng' + b'9' * 1_000_000 + b'\n',
                        b'Np' + b'1' * 1_000_000 + b'\n', b'I\n', b'I1\x002\n',
                        b'Lx\n', b'F\n', b'Fx\n', b'I1 2\n', b'g\n', b'Np-1\n'):
            self.rejects(PROTO + opcodes + b'.')
            self.rejects(with_attribute(opcodes))
        for opcodes, value in ((b'\x8a\xff' + b'\x7f' * 255,
                                int.from_bytes(b'\x7f' * 255)),
                               (b'\x8a\0', 0), (b'I-12\n', -12),
                               (b'L12L\n', 12), (b'I01\n', True),
                               (b'F1.5\n', 1.5), (b'Finf\n', float('inf'))):
            loaded = self.load(with_attribute(opcodes)).x
            self.assertEqual((loaded, type(loaded)), (value, type(value)))

    def test_memo(self):
        for opcodes in (b'h\0', b'Nq\1h\0', b'Nq\2', b'Nq\0q\0', b'Nq\0q\2',
                        b'Nr\0\0\0\x10', b'j\0\0\0\0', b'g0\n', b'Np1\ng0\n',
                        b'q\0', b'(q\0', b'\x94', b'N(\x94'):
            self.rejects(PROTO + opcodes + b'.', 'memo|empty stack')

    def test_cycles_and_changes(self):
        for opcodes, pattern in (
                (b']\x94h\0a', 'itself'), (b'](\x94', 'empty stack'),
                (b']\x94(h\0e', 'itself'), (b'}\x94(Nh\0u', 'itself'),
                (b']\x94h\0\x85h\0Na', 'in use'),
                (b']\x94](h\0ea', 'empty stack|itself|in use'),
                (b']\x94]\x94h\0ah\0h\1a', 'in use'),
                (SNAPSHOT.replace(b'}', b'\x94}') + text('x') + b'h\0sb',
                 'in use|itself'),
                (SNAPSHOT + b'b}b', 'no snapshot has|empty stack'),
                (SNAPSHOT + b'Nb', 'in use|no snapshot has')):
            self.rejects(PROTO + opcodes + b'.', pattern)

    def test_opcodes_of_code(self):
        for opcodes in (b'cos\nsystem\n' + text('true') + b'\x85R',
                        b'(ios\nsystem\n', b'(cos\nsystem\no', b'Ppersistent\n',
                        b'NQ', b'\x82\1', b'\x83\1\0', b'\x84\1\0\0\0',
                        text('os') + text('system') + b'\x93',
                        b'cbuiltins\ngetattr\n', b'cbuiltins\nobject\n)R',
                        b'cdatetime\ndatetime\n)\x81', b'\x97', b'N\x98',
                        b'ctracemalloc\nSnapshot\n)R',
                        b'ctracemalloc\nSnapshot\nN\x81',
                        b'ctracemalloc\nSnapshot\nN\x85\x81',
                        b'ctracemalloc\nSnapshot\n)}\x92',
                        b'ctracemalloc\nSnapshot\n', b'NN\x93', b'N2', b'N0N',
                        b'(1N', b'\x96' + bytes(8),
                        b'ctracemalloc\nSnapshot\n\x85',
                        b'ctracemalloc\nSnapshot\n\x85\x85',
                        b'](ctracemalloc\nSnapshot\ne',
                        b'}' + text('k') + b'ctracemalloc\nSnapshot\ns',
                        b'ccopyreg\n_reconstructor\n(K\2K\3NtR',
                        b'ccopyreg\n_reconstructor\n(K\xc8K\3NtR',
                        b'ccopyreg\n_reconstructor\n)R', b'NNR', b'N)R',
                        b'c_codecs\nencode\n' + text('x') * 2 + b'\x86R',
                        b'cdatetime\ndatetime\n' + text('x') + b'\x85R',
                        b'cdatetime\ndatetime\nC\n' + b'\xff' * 10 + b'\x85R',
                        b'cdatetime\ndatetime\nC\n\7\xdd\6\1\x18\0\0\0\0\0\x85R'):
            with self.subTest(opcodes):
                self.rejects(PROTO + opcodes + b'.')
                if b'_codecs' not in opcodes:
                    self.rejects(with_attribute(opcodes))

    def test_text_into_bytes(self):
        """A few bytes of opcodes must not copy megabytes."""
        self.rejects(with_attribute(
            b'](c_codecs\nencode\n\x94' + text('x' * 1_000_000) + b'\x94'
            + b'h\0h\1' + text('latin1') + b'\x86R' + b'e'), 'call that no')

    def test_structure(self):
        for opcodes in (b'', b'(', b'N(', b'((', b't', b'e', b'u', b'l', b'd',
                        b'a', b's', b'b', b'R', b'\x81', b'\x85', b'\x86',
                        b'\x87', b'N\x86', b'(N\x85\x86', b'}(Nu', b'(Nd',
                        b'NNa', b'NNNs', b'N(Ne', b'(N\x90', b'](Nu', b'}Na',
                        b'\x80\6', b'\x80\xff', b'\x95' + b'\xff' * 8,
                        b'\x8e' + b'\xff' * 8, b'X\xff\xff\xff\xff', b'X\2\0',
                        b'V\\u12\n', b'X\1\0\0\0\xff', b'c\n', b'c\n\n'):
            with self.subTest(opcodes):
                self.rejects(PROTO + opcodes + b'.')
                self.rejects(PROTO + opcodes)

    def test_types_of_attributes(self):
        for name, value in (
                ('timestamp', 'x\x1b'), ('timestamp', 5), ('pid', '1'),
                ('pid', -1), ('pid', 2 ** 64), ('pid', True),
                ('metadata', []), ('traced_memory', (1,)),
                ('traced_memory', (1, 2 ** 64)), ('traced_memory', 5),
                ('freelists', {'a': 5}), ('freelists', {'a': (1, 'x')}),
                ('traceback_limit', 'x'), ('traceback_limit', -1),
                ('statistics', 5), ('dump', None), ('__class__', 5),
                ('__dict__', {})):
            with self.subTest(name, value=value):
                self.rejects(stock(RAW, {name: value}))
        self.rejects(stock(RAW, {5: 6}))
        for data in 5, None, 'x', {1: 2}, [5], [()], [(1, 2, 3, 4, 5)]:
            self.rejects(stock(data))
        for name, value in ('pid', 'x'), ('pid', -5), ('stats', None):
            self.rejects(pickle.dumps(DATA_091 | {name: value}))

    @counts_memory
    def test_memory_is_bounded_by_the_size(self):
        n = 1_000_000
        for opcodes in (b']' * n, b'}\x94' * (n // 2), b'\x8f\x94' * (n // 2),
                        b'(' * n, b')' * n, b')\x94' * (n // 2), b'N' * n,
                        b'](' + b']\x94' * (n // 2) + b'e',
                        b'](' + b'N\x85' * (n // 2) + b'e',
                        b'(' + b'\x8c\1x' * (n // 3) + b't',
                        b'ctracemalloc\nSnapshot\n\x94' + b'h\0)\x81' * (n // 4),
                        b'(' + b'U\1\x80' * (n // 3) + b'l'):
            image = PROTO + opcodes + b'.'
            with open(self.path, 'wb') as file:
                file.write(image)
            check_memory(self, self.path, 200 * len(image) + 4_000_000,
                         opcodes[:20])


class GrammarTest(Case):
    """What is no attack loads, and is the same."""

    def test_protocols(self):
        values = {'a': [1, -1, 255, 256, 65536, 2 ** 31, -2 ** 31, 2 ** 200,
                        1.5, -0.0, float('inf'), None, True, False, '',
                        'text\n\\u1234\u00e9\u6f22\U0001f40d\udc80', (), (1,),
                        (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, [[1], {'a': 2}]],
                  'b': {'x': {1: 2, None: 3, 1.5: 4, ('a', 1): 5}},
                  'c': list(range(3000)), 'd': dict.fromkeys('abc' * 5, 1),
                  'e': {str(number): number for number in range(3000)}}
        for protocol in PROTOCOLS:
            for dumps in pickle.dumps, pickle._dumps:
                loaded = self.load(stock(RAW, values, protocol, dumps))
                self.assertEqual(loaded.traces._traces, RAW)
                for name, value in values.items():
                    self.assertEqual(repr(getattr(loaded, name)), repr(value))

    def test_newer_kinds(self):
        values = {'a': [b'', b'bytes\0\xff', b'x' * 300, {1, 'a'},
                        frozenset([(1, 2)]), frozenset(), set(), 'x' * 300,
                        {1, 2} | set(map(str, range(3000)))]}
        for protocol in PROTOCOLS[4:]:
            for dumps in pickle.dumps, pickle._dumps:
                loaded = self.load(stock(RAW, values, protocol, dumps))
                self.assertEqual(loaded.a, values['a'])

    def test_datetime(self):
        moment = datetime.datetime(2013, 6, 1, 18, 51, 48, 123456)
        for protocol in PROTOCOLS:
            loaded = self.load(stock(RAW, {'timestamp': moment}, protocol))
            self.assertEqual(loaded.timestamp, moment)
            loaded = self.load(pickle.dumps(DATA_091 | {'timestamp': moment},
                                            protocol))
            self.assertEqual(loaded.timestamp, moment)

    def test_version_091(self):
        for protocol in PROTOCOLS:
            snapshot = self.load(pickle.dumps(DATA_091, protocol))
            self.check_091(snapshot)
            self.assertEqual(snapshot.pid, 123)
            self.assertEqual(str(snapshot.timestamp), '2013-06-01 18:51:48')
            self.assertEqual(snapshot.metadata['process_memory'], 10_000)

    def check_091(self, snapshot):
        self.assertEqual([(str(s.traceback), s.size, s.count)
                          for s in snapshot.statistics('lineno')],
                         [('a.py:1', 100, 2), ('b.py:7', 50, 3),
                          ('a.py:0', 5, 1)])

    def test_version_091_of_python_2(self):
        """cPickle's names are bytes, and its memo begins at 1."""
        moment = datetime.datetime(2013, 6, 1, 18, 51, 48)
        state = moment.__reduce_ex__(2)[1][0]
        image = (b'\x80\2}q\1(U\5statsq\2}q\3(U\4a.pyq\4}q\5(K\1KdK\2\x86q\6'
                 b'NK\5K\1\x86q\7uU\4b.pyq\x08}q\tK\7K2K\3\x86q\nsu'
                 b'U\ttimestampq\x0bcdatetime\ndatetime\nq\x0cU\n' + state
                 + b'\x85q\rRq\x0eU\x0eformat_versionq\x0fK\0K\t\x86q\x10'
                 b'U\3pidq\x11M9\x30u.')
        snapshot = self.load(image)
        self.check_091(snapshot)
        self.assertEqual(snapshot.timestamp, moment)
        self.assertEqual(snapshot.pid, 12345)

    def test_our_own(self):
        snapshot = Snapshot(RAW, 2)
        snapshot.metadata = {'note': {'a': [1, 2.5, None]}}
        snapshot.dump(self.path, format='pickle')
        loaded = Snapshot.load(self.path)
        self.assertEqual(loaded.metadata, snapshot.metadata)
        self.assertEqual(loaded.timestamp, snapshot.timestamp)
        self.assertEqual(loaded.traces, snapshot.traces)

    def make(self, generator, depth=4):
        """Plain data."""
        kinds = [lambda: None, lambda: generator.random() < 0.5,
                 lambda: generator.getrandbits(generator.randrange(1, 80)),
                 lambda: generator.random(),
                 lambda: ''.join(chr(generator.randrange(0x3000))
                                 for _ in range(generator.randrange(9)))]
        if depth:
            def some():
                return [self.make(generator, depth - 1)
                        for _ in range(generator.randrange(6))]
            kinds += [some, lambda: tuple(some()),
                      lambda: {str(i): value
                               for i, value in enumerate(some())}] * 2
        return generator.choice(kinds)()

    def test_random_data(self):
        generator = random.Random(5)
        for number in range(2000):
            value = self.make(generator)
            protocol = number % len(PROTOCOLS)
            loaded = self.load(stock(RAW, {'x': value}, protocol))
            self.assertEqual(loaded.x, value)

    def test_random_damage(self):
        """Whatever loads is a snapshot; all else is a ValueError."""
        generator = random.Random(7)
        seeds = [stock(RAW, {'x': [{'a': (1, 'x')}, 2.5]}, protocol)
                 for protocol in PROTOCOLS]
        seeds += [pickle.dumps(DATA_091, protocol) for protocol in PROTOCOLS]
        interesting = (b'()]}N.0abcdehjgqrtuR\x81\x85\x86\x87\x8f\x90\x91'
                       b'\x93\x94KMJXUV')
        for _ in range(10_000):
            image = bytearray(generator.choice(seeds))
            for _ in range(generator.randrange(1, 6)):
                at = generator.randrange(len(image))
                choice = generator.randrange(5)
                if choice == 0:
                    image[at] = generator.randrange(256)
                elif choice == 1:
                    image[at] = generator.choice(interesting)
                elif choice == 2:
                    image.insert(at, generator.choice(interesting))
                elif choice == 3:
                    del image[at:at + generator.randrange(1, 5)]
                else:
                    other = generator.choice(seeds)
                    image[at:at] = other[generator.randrange(len(other)):][:30]
                if not image:
                    break
            try:
                loaded = self.load(image)
            except ValueError:
                continue
            loaded.statistics('lineno')
            try:
                loaded.dump(self.path)
            except TypeError:
                pass              # an attribute that JSON has not


if __name__ == '__main__':
    unittest.main()
