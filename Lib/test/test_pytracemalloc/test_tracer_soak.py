"""Everything at once, at random: see soak.py and native_soak.py."""
import random
import shlex
import shutil
import sysconfig
import unittest

from test.support import check_sanitizer, import_helper, script_helper
from test.support import threading_helper
from test.test_pytracemalloc.fetched import packages
from test.test_pytracemalloc.helpers import ALLOCATOR, SANITIZED, SLOW

import_helper.import_module('_testtracer')
import_helper.import_module('_interpreters')

SECONDS, SEEDS = (30, 4) if SLOW else (3, 1)


@threading_helper.requires_working_threading()
class SoakTests(unittest.TestCase):

    def check(self, mode, *more, **environment):
        for i in range(SEEDS):
            seed = random.randrange(1 << 32)
            with self.subTest(seed=seed):
                script_helper.assert_python_ok(
                    '-m', 'test.test_pytracemalloc.soak', mode, str(seed),
                    str(SECONDS), *more, PYTHONMALLOC=ALLOCATOR,
                    **environment)

    def test_started_and_stopped(self):
        self.check('switch')

    def test_beside_the_oracle(self):
        self.check('oracle')

    @unittest.skipIf(check_sanitizer(address=True, thread=True),
                     'sanitizers do not know of stacks that are swapped')
    def test_with_greenlets(self):
        for mode in 'switch', 'oracle':
            self.check(mode, 'greenlets',
                       PYTHONPATH=str(packages('greenlet')))

    @unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
    @unittest.skipUnless(
        shutil.which(shlex.split(sysconfig.get_config_var('CC'))[0]),
        'needs a compiler')
    def test_native_memory(self):
        for _ in range(SEEDS):
            seed = random.randrange(1 << 32)
            with self.subTest(seed=seed):
                script_helper.assert_python_ok(
                    '-m', 'test.test_pytracemalloc.native_soak',
                    str(SECONDS), str(seed))


if __name__ == '__main__':
    unittest.main()
