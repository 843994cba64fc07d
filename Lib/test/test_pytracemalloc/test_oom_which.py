"""Of several requests that fail, which one is written."""
import os
import resource
import unittest
from test.test_pytracemalloc.fetched import packages
from test.test_pytracemalloc.helpers import FREE_THREADED
from test.test_pytracemalloc.oom_case import HUGE, LARGE, OomCase

from pytracemalloc import failed


class WhichTests(OomCase):
    """Of several requests that fail, which one is written."""

    ASK = f'''
def ask(size):
    try:
        return bytearray(size)
    except MemoryError:
        pass
def hopeless():
    ask(1 << 50)
def first():
    ask({LARGE})
def second():
    ask({LARGE} + 10)
def third():
    time.sleep(1.1)
    ask({LARGE} + 20)
held = zero * 1_000_000                 # the line
'''

    def check_which(self, text, number, size, function):
        snapshot, request = self.check(self.run_program(
            f'{self.ASK}limit(100)\n{text}'))
        self.assertEqual((request['number'], request['size']),
                         (number, size + 1))
        self.check_stack(request, '<module>', function, 'ask')
        self.assertEqual(self.live_at(snapshot)[0], 1)
        return snapshot

    def test_first_of_many(self):
        self.check_which('first(); second(); second()', 1, LARGE, 'first')

    def test_hopeless_alone(self):
        snapshot = self.check_which('hopeless()', 1, HUGE, 'hopeless')
        self.assertRegex(failed.line(snapshot),
                         r'^MemoryError: 1\.0 PiB could not be allocated at '
                         r'.*app\.py:\d+ in ask \(limit of address space '
                         r'[\d.]+ .iB is less\)$')

    def test_hopeless_gives_its_place(self):
        self.check_which('hopeless(); hopeless(); second()', 3, LARGE + 10,
                         'second')

    def test_hopeless_takes_no_place(self):
        self.check_which('first(); time.sleep(1.1); hopeless()', 1,
                         LARGE, 'first')

    def test_later(self):
        self.check_which('first(); second(); third()', 3, LARGE + 20, 'third')

    def test_machine(self):
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            self.skipTest('addresses have a limit here')
        snapshot, request = self.check(self.run_program(
            f'{self.ASK}hopeless()'))
        self.assertEqual(request['reason'], 'machine')
        self.assertIn('with swap)', failed.line(snapshot))

    def check_unannounced(self, text, *functions):
        result = self.run_program(f'''
held = zero * 1_000_000                 # the line
{text}
''')
        snapshot, request = self.check(result)
        self.assertEqual(
            (request['number'], request['size'], request['domain'],
             request['reason']), (1, 0, 'external', None))
        self.check_stack(request, *functions)
        self.assertGreater(self.live_at(snapshot)[1], 1_000_000)
        self.assertRegex(failed.line(snapshot),
                         r'^MemoryError raised at .*app\.py:\d+ in \S+ \(no '
                         r'request to an allocator of Python has failed\)$')

    def test_no_request_is_made(self):
        """What raises MemoryError before it asks, or of its own."""
        for number, error in enumerate((
                '[None] * (1 << 61)', 'raise MemoryError',
                'raise MemoryError("mine")', 'raise Mine(1, 2)')):
            with self.subTest(error):
                self.check_unannounced(f'''
class Mine(MemoryError):
    def __init__(self, one, two): pass
def fail():
    {error}
try:
    fail()
except MemoryError:
    pass
''', '<module>', 'fail')
                os.rename('app.oom', f'{number}.oom')

    def test_exception_after_a_request(self):
        """It is taken for a consequence."""
        self.check_which('''
first()
try:
    raise MemoryError
except MemoryError:
    pass
''', 1, LARGE, 'first')

    def test_interpreter_that_is_made(self):
        """It puts some exceptions by."""
        result = self.run_program('''
import _interpreters
_interpreters.destroy(_interpreters.create())
''')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(os.listdir(), ['app.py'])

    @unittest.skipIf(FREE_THREADED, 'NumPy is not fetched for it')
    def test_numpy(self):
        """Its data comes from the raw domain, in older releases from malloc(),
        where the exception is all that is seen."""
        result = self.run_program('''
import numpy
def load():
    return numpy.ones(40_000_000)
limit(200)
try:
    load()
except MemoryError as error:
    print(type(error) is MemoryError)
''', env=os.environ | {'PYTHONPATH': str(packages('numpy'))})
        self.assertEqual(result.stdout, 'False\n')
        snapshot, request = self.check(result)
        self.assertEqual(request['number'], 1)
        self.assertIn((request['domain'], request['size']),
                      [('raw', 320_000_000), ('external', 0)])
        self.assertIn('load', [frame['function']
                               for frame in request['stack']])


if __name__ == '__main__':
    unittest.main()
