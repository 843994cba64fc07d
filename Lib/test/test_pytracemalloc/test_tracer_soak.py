"""Everything at once, at random: see soak.py."""
import random
import unittest

from test.support import import_helper, script_helper, threading_helper
from test.test_pytracemalloc.helpers import SLOW

import_helper.import_module('_testtracer')
import_helper.import_module('_interpreters')

SECONDS, SEEDS = (30, 4) if SLOW else (3, 1)


@threading_helper.requires_working_threading()
class SoakTests(unittest.TestCase):

    def check(self, mode):
        for i in range(SEEDS):
            seed = random.randrange(1 << 32)
            with self.subTest(seed=seed):
                script_helper.assert_python_ok(
                    '-m', 'test.test_pytracemalloc.soak', mode, str(seed),
                    str(SECONDS), PYTHONMALLOC='pymalloc')

    def test_started_and_stopped(self):
        self.check('switch')

    def test_beside_the_oracle(self):
        self.check('oracle')


if __name__ == '__main__':
    unittest.main()
