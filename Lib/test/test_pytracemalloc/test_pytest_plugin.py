"""The pytest plugin: pytest in a process of its own on small test files."""

import importlib.metadata
import os
import re
import subprocess
import tempfile
import textwrap
import unittest
import xml.etree.ElementTree

from test.test_pytracemalloc.pytest_environment import python_with_pytest


class EntryPointTest(unittest.TestCase):
    def test_entry_point(self):
        found = [entry for entry in importlib.metadata.entry_points(
                     group='pytest11') if entry.name == 'tracemalloc']
        self.assertEqual([entry.value for entry in found],
                         ['pytracemalloc.pytest_plugin'])


class PluginTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.python = python_with_pytest()

    def run_pytest(self, text, *options, python=()):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'test_it.py')
            with open(path, 'w') as file:
                file.write('import pytest\n' + textwrap.dedent(text))
            process = subprocess.run(
                [self.python, *python, '-m', 'pytest', '-p', 'no:cacheprovider',
                 '--strict-markers', *options, path], capture_output=True,
                text=True, cwd=directory, timeout=120)
        self.assertNotIn('Traceback', process.stderr)
        return process.returncode, process.stdout + process.stderr

    def test_limit_memory(self):
        status, output = self.run_pytest('''\
            @pytest.mark.limit_memory('2 MB')
            def test_within():
                bytes(1_000_000); bytes(1_000_000)

            @pytest.mark.limit_memory('1 MB')
            def test_beyond():
                for size in 10, 3_000_000, 10:
                    bytes(size)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('1 failed, 1 passed', output)
        self.assertIn('limit_memory: the test used 2.9 MiB, limit 1.0 MiB',
                      output)
        self.assertRegex(output, r'2\.9 MiB +\d  .*test_it\.py:9 in '
                                 r'test_beyond')

    def test_my_code(self):
        text = '''\
            import json

            @pytest.mark.limit_memory('10 KB')
            def test_beyond():
                kept = json.loads('[' + '1.5,' * 2000 + '2.5]')
            '''
        status, output = self.run_pytest(text)
        self.assertEqual(status, 1)
        self.assertNotRegex(output, r'test_it\.py:6 in test_beyond >')
        for option in '--memory-my-code', '--memory-mine=!*/x.py':
            status, output = self.run_pytest(text, option)
            self.assertEqual(status, 1)
            self.assertRegex(output, r'KiB +[\d,]+  .*test_it\.py:6 in '
                                     r'test_beyond > .*/json/\w+\.py:\d+ in ')
        status, output = self.run_pytest(text,
                                         '--memory-mine=!*/test_it.py')
        self.assertRegex(output, r'KiB +[\d,]+  no line of my code > ')

    def test_limit_leaks(self):
        status, output = self.run_pytest('''\
            kept = []

            @pytest.mark.limit_leaks('1 MB')
            def test_cycles_are_no_leak():
                for _ in range(5):
                    cycle = [bytes(1_000_000)]
                    cycle.append(cycle)

            @pytest.mark.limit_leaks('1 MB')
            def test_leak():
                kept.append(bytes(2_000_000))
            ''')
        self.assertEqual(status, 1)
        self.assertIn('1 failed, 1 passed', output)
        self.assertIn('limit_leaks: a line left 1.9 MiB behind', output)
        self.assertIn('test_it.py:12 in test_leak', output)

    def test_limit_allocations(self):
        status, output = self.run_pytest('''\
            @pytest.mark.limit_allocations(100)
            def test_few():
                pass

            @pytest.mark.limit_allocations(100)
            def test_many():
                for number in range(1000):
                    bytes(100)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('1 failed, 1 passed', output)
        self.assertRegex(output, r'limit_allocations: the test allocated '
                                 r'[12],\d\d\d blocks, limit 100')
        self.assertRegex(output, r'KiB +[12],\d\d\d  .*:9 in test_many')

    def test_failure_of_the_test_comes_first(self):
        status, output = self.run_pytest('''\
            @pytest.mark.limit_memory('1 B')
            def test_it():
                assert 1 == 2
            ''')
        self.assertEqual(status, 1)
        self.assertIn('assert 1 == 2', output)
        self.assertNotIn('limit_memory:', output)

    def test_unittest_classes(self):
        status, output = self.run_pytest('''\
            import unittest
            class Test(unittest.TestCase):
                @pytest.mark.limit_memory('1 MB')
                def test_beyond(self):
                    bytes(3_000_000)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('limit_memory: the test used', output)

    def test_bad_limit(self):
        for name, argument, problem in (
                ('allocations', "'much'", "'much' is not a number of blocks"),
                ('allocations', '-1', '-1 is negative'),
                ('memory', "'much'", "'much' is not a size; write it as"),
                ('memory', '2.5', "2.5 is not a size; write it as '24 MB'"),
                ('leaks', 'None', "None is not a size; write it as '24 MB'"),
                ('memory', 'True', "True is not a size"),
                ('memory', "'-1 MB'", "'-1 MB' is not a size"),
                ('memory', '', 'give one argument'),
                ('leaks', "'1 MB', 2", 'give one argument')):
            with self.subTest(name=name, argument=argument):
                # It fails alone, in one line; the others run.
                status, output = self.run_pytest(f'''\
                    @pytest.mark.limit_{name}({argument})
                    def test_it():
                        pass
                    def test_other():
                        pass
                    ''')
                self.assertEqual(status, 1, output)
                self.assertRegex(output, rf'(?m)^limit_{name}: '
                                         + re.escape(problem))
                self.assertIn('1 passed, 1 error', output)

    def test_arguments_that_are_refused(self):
        for name, argument, problem in (
                ('memory', 'current_thread_only=True',
                 'current_thread_only=True is not supported: '),
                ('leaks', 'current_thread_only=True',
                 'current_thread_only=True is not supported: '),
                ('memory', 'warmups=1', 'warmups is not an argument of this'),
                ('memory', 'filter_fn=id', 'filter_fn is not an argument of'),
                ('allocations', 'current_thread_only=False',
                 'current_thread_only is not an argument of this marker'),
                ('leaks', 'max=1', 'max is not an argument of this marker'),
                ('leaks', 'filter_fn=1', 'filter_fn=1 is not a function; '),
                ('leaks', 'warmups=-1', 'warmups=-1 is not a number of runs'),
                ('leaks', 'warmups=True', 'warmups=True is not a number of')):
            with self.subTest(name=name, argument=argument):
                # The test that has it fails, in one line; the others run.
                status, output = self.run_pytest(f'''\
                    @pytest.mark.limit_{name}(10_000_000, {argument})
                    def test_it():
                        pass
                    def test_other():
                        pass
                    ''', '-W', 'error')
                self.assertEqual(status, 1, output)
                self.assertRegex(output, rf'(?m)^limit_{name}: '
                                         + re.escape(problem))
                self.assertIn('1 passed, 1 error', output)
                self.assertNotIn('INTERNALERROR', output)

    def test_arguments_of_pytest_memray(self):
        status, output = self.run_pytest('''\
            kept = []

            @pytest.mark.limit_memory('1 MB', current_thread_only=False)
            @pytest.mark.limit_leaks('1 MB', current_thread_only=False,
                                     filter_fn=None)
            def test_within():
                pass

            @pytest.mark.limit_leaks('1 MB', current_thread_only=False)
            def test_beyond():
                kept.append(bytes(3_000_000))
            ''', '-W', 'error')
        self.assertEqual(status, 1, output)
        self.assertIn('1 failed, 1 passed in', output)

    def test_filter_fn(self):
        status, output = self.run_pytest('''\
            kept = []
            stacks = []

            def cached(size):
                kept.append(bytes(size))

            def leaked(size):
                cached(size)

            def is_no_cache(stack):
                stacks.append(stack)
                return 'leaked' in [frame.function for frame in stack.frames]

            def wrong(stack):
                return stack.frame

            @pytest.mark.limit_leaks('1 MB', filter_fn=is_no_cache)
            def test_cached():
                kept.append(bytes(100_000))
                cached(3_000_000)

            def test_called_with():
                # Only of what goes beyond the limit, the most recent first.
                stack, = stacks
                functions = [frame.function for frame in stack.frames]
                assert functions[:2] == ['cached', 'test_cached']
                assert stack.frames[0].filename == __file__
                assert stack.frames[0].lineno == 6

            @pytest.mark.limit_leaks('1 MB', filter_fn=is_no_cache)
            def test_leaked():
                cached(3_000_000)
                leaked(2_000_000)

            @pytest.mark.limit_leaks('1 MB', filter_fn=wrong)
            def test_wrong():
                cached(3_000_000)

            @pytest.mark.limit_leaks('4 MB', filter_fn=is_no_cache)
            def test_little_is_left_by_the_line():
                cached(3_000_000)
                leaked(2_000_000)

            @pytest.mark.limit_leaks('1 MB', filter_fn=wrong)
            def test_filter_is_not_asked():
                pass
            ''')
        self.assertEqual(status, 1)
        self.assertIn('2 failed, 4 passed', output)
        self.assertRegex(output, 'limit_leaks: a line left 1.9 MiB behind, '
                                 'limit 1.0 MiB\n +1.9 MiB +1  .*test_it.py:6 '
                                 'in cached\n')
        self.assertIn("AttributeError: 'Stack' object has no attribute "
                      "'frame'", output)

    FRAMES = '''\
        import tracemalloc

        @pytest.mark.limit_memory('1 MB')
        def test_limit():
            print('frames', tracemalloc.get_traceback_limit())
        '''

    def test_frames(self):
        for options, frames in (
                ((), 65535), (('--memory-frames=full',), 65535),
                (('--memory-frames=3',), 3),
                (('-o', 'memory_frames=7'), 7),
                (('-o', 'memory_frames=7', '--memory-frames=3'), 3)):
            status, output = self.run_pytest(self.FRAMES, '-s', *options)
            self.assertEqual(status, 0, output)
            self.assertIn(f'frames {frames}\n', output)
        for options, name in (
                (('--memory-frames=x',), '--memory-frames x'),
                (('--memory-frames=',), '--memory-frames '),
                (('-o', 'memory_frames=0'), 'memory_frames 0')):
            status, output = self.run_pytest(self.FRAMES, *options)
            self.assertEqual(status, 4)
            self.assertIn(f'ERROR: {name}: give a number from 1 to 65535, or '
                          f'full\n', output)

    def test_frames_of_a_traced_session(self):
        status, output = self.run_pytest(self.FRAMES, '-s',
                                         '--memory-frames=3',
                                         python=['-X', 'tracemalloc=2'])
        self.assertEqual(status, 0, output)
        self.assertIn('frames 2\n', output)

    def test_warmups(self):
        status, output = self.run_pytest('''\
            runs = []
            cache = {}

            def use(size):
                if size not in cache:
                    cache[size] = bytes(size)

            @pytest.mark.limit_leaks('1 MB', warmups=2)
            def test_warm():
                runs.append('warm')
                use(3_000_000)

            def test_times():
                assert runs == ['warm', 'warm', 'warm']

            @pytest.mark.limit_leaks('1 MB')
            def test_cold():
                use(3_000_001)

            @pytest.mark.limit_leaks('1 MB', warmups=1)
            def test_fails():
                runs.append('fails')
                raise KeyError

            def test_failed_once():
                assert runs.count('fails') == 1
            ''')
        self.assertEqual(status, 1)
        self.assertIn('2 failed, 3 passed', output)
        self.assertIn('FAILED test_it.py::test_cold', output)
        self.assertIn('FAILED test_it.py::test_fails - KeyError', output)

    def test_summary(self):
        status, output = self.run_pytest('''\
            def test_small():
                pass
            def test_large():
                bytes(3_000_000)
            ''', '--memory-report')
        self.assertEqual(status, 0)
        lines = output.partition('memory of tests')[2].splitlines()
        self.assertRegex(lines[2], r'2\.9 MiB .*::test_large')
        self.assertRegex(lines[3], r'::test_small')

    def test_fixtures_are_not_counted(self):
        status, output = self.run_pytest('''\
            kept = []

            @pytest.fixture
            def large():
                yield bytes(5_000_000)
                kept.append(bytes(4_000_000))

            @pytest.fixture(scope='module')
            def shared():
                return bytes(3_000_000)

            @pytest.mark.limit_memory(0)
            @pytest.mark.limit_leaks(0)
            @pytest.mark.limit_allocations(0)
            def test_it(large, shared):
                pass
            ''')
        self.assertEqual(status, 0, output)

    def test_parameters(self):
        status, output = self.run_pytest('''\
            @pytest.mark.limit_memory('1 MB')
            @pytest.mark.parametrize('size', [10, 3_000_000])
            def test_same(size):
                bytes(size)

            @pytest.mark.parametrize('size', [
                pytest.param(3_000_001,
                             marks=pytest.mark.limit_memory('1 MB')),
                3_000_002])
            def test_one(size):
                bytes(size)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('2 failed, 2 passed', output)
        self.assertIn('FAILED test_it.py::test_same[3000000]', output)
        self.assertIn('FAILED test_it.py::test_one[3000001]', output)

    def test_nearest_limit(self):
        status, output = self.run_pytest('''\
            pytestmark = pytest.mark.limit_memory('1 MB')

            @pytest.mark.limit_memory('4 MB')
            class TestIt:
                def test_class(self):
                    bytes(3_000_000)

                @pytest.mark.limit_memory('8 MB')
                def test_function(self):
                    bytes(6_000_000)

            def test_module():
                bytes(2_000_000)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('1 failed, 2 passed', output)
        self.assertIn('FAILED test_it.py::test_module', output)

    def test_all_limits(self):
        status, output = self.run_pytest('''\
            kept = []

            @pytest.mark.limit_memory('1 MB')
            @pytest.mark.limit_leaks('1 MB')
            @pytest.mark.limit_allocations(1)
            def test_it():
                kept.append([bytes(1_000_000) for _ in range(9)])
            ''')
        self.assertEqual(status, 1)
        for name in 'memory', 'leaks', 'allocations':
            self.assertRegex(output, rf'limit_{name}: .*\n.*:8 in test_it')

    def test_coroutines(self):
        status, output = self.run_pytest('''\
            import asyncio

            @pytest.mark.asyncio
            @pytest.mark.limit_memory('1 MB')
            async def test_within():
                await asyncio.sleep(0)

            @pytest.mark.asyncio
            @pytest.mark.limit_memory('1 MB')
            async def test_beyond():
                await asyncio.sleep(0)
                bytes(3_000_000)
            ''')
        self.assertEqual(status, 1)
        self.assertIn('1 failed, 1 passed', output)
        self.assertRegex(output, r'2\.9 MiB +\d  .*test_it\.py:13 in test_bey')

    def test_threads_of_a_test(self):
        status, output = self.run_pytest('''\
            import threading
            kept = []

            def work():
                kept.append(bytes(2_000_000))

            @pytest.mark.limit_leaks('1 MB')
            def test_it():
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            ''')
        self.assertEqual(status, 1)
        self.assertRegex(output, r'1\.9 MiB +\d  .*test_it\.py:6 in work')

    def test_tests_that_run_again(self):
        status, output = self.run_pytest('''\
            runs = []

            @pytest.mark.limit_memory('1 MB')
            @pytest.mark.flaky(reruns=2)
            def test_it():
                runs.append(1)
                bytes(3_000_000 if len(runs) < 3 else 3)
            ''')
        self.assertEqual(status, 0, output)
        self.assertIn('1 passed, 2 rerun', output)

    def test_other_outcomes(self):
        status, output = self.run_pytest('''\
            @pytest.mark.limit_memory('1 MB')
            @pytest.mark.xfail(strict=True)
            def test_expected():
                bytes(3_000_000)

            @pytest.mark.limit_memory('1 MB')
            def test_skips():
                bytes(3_000_000)
                pytest.skip('no')

            @pytest.mark.limit_memory('1 MB')
            @pytest.mark.skip
            def test_skipped():
                bytes(3_000_000)
            ''', '--memory-report')
        self.assertEqual(status, 0, output)
        self.assertIn('2 skipped, 1 xfailed', output)

    def test_junit(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'junit.xml')
            self.run_pytest('''\
                @pytest.mark.limit_memory('1 MB')
                def test_it():
                    bytes(3_000_000)
                ''', f'--junit-xml={path}')
            failure = xml.etree.ElementTree.parse(path).find('.//failure')
        self.assertIn('limit_memory: the test used 2.9 MiB', failure.text)
        self.assertIn('test_it.py:4 in test_it', failure.text)

    def test_without_the_plugin(self):
        status, output = self.run_pytest('def test_it(): pass',
                                         '-p', 'no:tracemalloc')
        self.assertEqual(status, 0, output)
        status, output = self.run_pytest('def test_it(): pass',
                                         '-p', 'no:tracemalloc',
                                         '--memory-report')
        self.assertEqual(status, 4)
        self.assertIn('unrecognized arguments: --memory-report', output)

    def test_nothing_to_sum_up(self):
        status, output = self.run_pytest('', '--memory-report')
        self.assertEqual(status, 5)
        self.assertIn('no test has run', output)

    def test_workers(self):
        status, output = self.run_pytest('''\
            def test_large():
                bytes(3_000_000)
            @pytest.mark.limit_memory('1 MB')
            def test_beyond():
                bytes(2_000_000)
            ''', '--memory-report', '-n', '2')
        self.assertEqual(status, 1)
        self.assertIn('limit_memory: the test used 1.9 MiB', output)
        lines = output.partition('memory of tests')[2].splitlines()
        self.assertRegex(lines[2], r'2\.9 MiB .*::test_large')
        self.assertRegex(lines[3], r'1\.9 MiB .*::test_beyond')

    def test_help(self):
        self.assertIn('--memory-top=N', self.run_pytest('', '--help')[1])
        self.assertIn('@pytest.mark.limit_leaks(limit, filter_fn',
                      self.run_pytest('', '--markers')[1])

    def test_nothing_is_left_out_by_its_name(self):
        status, output = self.run_pytest('''\
            import pluggy
            kept = []

            @pytest.mark.limit_leaks(1000)
            @pytest.mark.limit_allocations(100)
            def test_it():
                for name in range(100):
                    kept.append(pluggy.HookimplMarker(str(name)))
                    with pytest.raises(KeyError):
                        {}[1]
            ''')
        self.assertEqual(status, 1, output)
        self.assertIn('limit_leaks: a line left', output)
        self.assertRegex(output, r'_pytest.raises\.py:|_pytest.python_api\.py:'
                                 r'|_pytest._code.code\.py:')

    def test_a_traced_session_keeps_its_peak(self):
        status, output = self.run_pytest('''\
            import tracemalloc

            def test_highest():
                bytes(50_000_000)

            @pytest.mark.limit_memory('1 MB')
            def test_beyond():
                bytes(3_000_000)

            def test_peak():
                assert tracemalloc.get_traced_memory()[1] > 50_000_000

            @pytest.mark.limit_memory('1 MB')
            def test_above():
                bytes(100_000_000)
            ''', '--memory-report', python=['-X', 'tracemalloc'])
        self.assertEqual(status, 1)
        self.assertIn('2 failed, 2 passed', output)
        self.assertRegex(output, r'the test used 2\.9 MiB, limit 1\.0 MiB\n'
                                 r'where is not known')
        self.assertRegex(output, r'the test used 95\.4 MiB, limit 1\.0 MiB\n'
                                 r' *95\.4 MiB +\d+  .*:16 in test_above')

    def test_nothing_is_traced_unasked(self):
        status, _ = self.run_pytest('''\
            import tracemalloc
            def test_it():
                assert not tracemalloc.is_tracing()
            ''')
        self.assertEqual(status, 0)

    def test_program_that_traces_itself(self):
        status, output = self.run_pytest('''\
            import tracemalloc
            @pytest.mark.limit_memory('10 MB')
            def test_it():
                assert tracemalloc.is_tracing()
                tracemalloc.stop()
            ''')
        self.assertEqual(status, 0, output)


if __name__ == '__main__':
    unittest.main()
