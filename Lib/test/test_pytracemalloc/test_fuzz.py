"""What fuzzing has found, and its seeds, do no harm; Tools/fuzz/run finds more.
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

FUZZ = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''), 'Tools', 'fuzz')
# Runs the target over the files that are named.
MAIN = '''
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
main(int argc, char **argv)
{
    static uint8_t data[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            return 1;
        }
        size_t size = fread(data, 1, sizeof(data), file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
'''
# Makes a promise of each target untrue.
BROKEN = {
    'pickle': 'targets.Snapshot.load = lambda name: {}[name]',
    'control': 'targets.control.answer = lambda line: {"error": "a\\nb"}',
    'http': 'targets.exchange = lambda data: b""',
    'command': 'targets.cli.main = lambda words: 3',
}


def corpus(target):
    return sorted((FUZZ / 'corpus' / target).iterdir())


@unittest.skipUnless(FUZZ.is_dir(), 'needs the repository')
class CorpusTests(unittest.TestCase):

    def run_python(self, *command):
        return subprocess.run(
            [sys.executable, *command], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=600,
            env=os.environ | {
                'PYTHONPATH': str(FUZZ),
                # For what a run that is ended leaves behind.
                'TMPDIR': self.enterContext(tempfile.TemporaryDirectory())})

    def test_python(self):
        for target in BROKEN:
            with self.subTest(target):
                self.assertGreater(len(corpus(target)), 5)
                result = self.run_python(FUZZ / 'targets.py', target,
                                         *corpus(target))
                self.assertEqual((result.returncode, result.stderr), (0, ''),
                                 result.stdout)

    def test_broken_promises_are_noticed(self):
        for target, change in BROKEN.items():
            with self.subTest(target):
                result = self.run_python(
                    '-c', f'import sys, targets; targets.prepare(); {change}; '
                    f'targets.run({target!r}, open(sys.argv[1], "rb").read())',
                    corpus(target)[0])
                self.assertEqual(result.returncode, 1, result.stderr)

    def test_an_input_that_takes_too_long_is_noticed(self):
        result = self.run_python(
            '-c', 'import targets; targets.SECONDS = 0.5; targets.prepare();'
            'targets.control.answer = lambda line: targets.os.read('
            'targets.os.pipe()[0], 1); targets.run("control", b"{}")')
        self.assertEqual(result.returncode, 1)
        self.assertIn('Timeout', result.stderr)

    @unittest.skipUnless(sysconfig.is_python_build(), 'needs the build tree')
    def test_c(self):
        compiler = shlex.split(sysconfig.get_config_var('CC'))
        if not shutil.which(compiler[0]):
            self.skipTest('needs a compiler')
        build = pathlib.Path(sys.executable).resolve().parent.parent
        for target in 'snapshot', 'unwind':
            with (self.subTest(target),
                  tempfile.TemporaryDirectory() as folder):
                (main := pathlib.Path(folder, 'main.c')).write_text(MAIN)
                program = pathlib.Path(folder, 'replay')
                subprocess.run(
                    [FUZZ / 'compile', target, build, program, *compiler, main,
                     '-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION'], check=True)
                result = subprocess.run(
                    [program, *corpus(target)], capture_output=True, text=True,
                    env=os.environ | {'ASAN_OPTIONS': 'detect_leaks=0'})
                self.assertEqual((result.returncode, result.stderr), (0, ''))


if __name__ == '__main__':
    unittest.main()
