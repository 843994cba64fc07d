"""The benchmark: its statistics, tables, plot, page, and a small real run."""

import contextlib
import importlib
import io
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import types
import unittest
import unittest.mock
import xml.etree.ElementTree
from test.support import os_helper, requires_subprocess
from test.test_pytracemalloc.command_case import heed_signals

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
BENCH = TOP / 'Tools' / 'bench'
SVG = '{http://www.w3.org/2000/svg}'
NAMES = ('instructions', 'measure', 'modes', 'native', 'page', 'plot',
         'pyperf_suite', 'run', 'scaling', 'summary', 'table', 'workloads')
MODES = ('stock', 'off', '1')
# Three rounds of two workloads: in "off" the second round is the odd one.
RESULTS = {
    'calm': {'stock': [{'cpu': 2.0, 'peak_kib': 100},
                       {'cpu': 4.0, 'peak_kib': 100},
                       {'cpu': 2.0, 'peak_kib': 100}],
             'off': [{'cpu': 2.0, 'peak_kib': 100},
                     {'cpu': 12.0, 'peak_kib': 110},
                     {'cpu': 2.2, 'peak_kib': 110}],
             '1': [{'cpu': 4.0, 'peak_kib': 150}, None, None]},
    'wild': {'stock': [{'cpu': 1.0, 'peak_kib': 200}] * 3,
             'off': [{'cpu': 1.0, 'peak_kib': 200}] * 3,
             '1': [{'cpu': 2.0, 'peak_kib': 300, 'loops': 3,
                    'base': {'cpu': 0.25, 'peak_kib': 100}},
                   None, None]},
    'slow': {'stock': [{'cpu': 1.0, 'peak_kib': 100}] * 3,
             'off': [{'cpu': 1.0, 'peak_kib': 100}] * 3,
             '1': [{'error': 'over 9 s'}, None, None]},
}


class BenchTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        if not (BENCH / 'run.py').is_file():
            raise unittest.SkipTest('needs the repository')
        # What is imported adds the folder of all tools.
        cls.enterClassContext(unittest.mock.patch.object(
            sys, 'path', [str(BENCH), *sys.path]))
        cls.bench = types.SimpleNamespace(
            **{name: importlib.import_module(name) for name in NAMES})

    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.folder = pathlib.Path(folder)

    def found(self):
        return self.bench.summary.summarise(RESULTS, MODES, 'stock', 'cpu')


class StatisticsTests(BenchTest):

    def test_median_of_paired_ratios(self):
        calm = self.found()['time']['workloads']['calm']
        # Ratios 1, 3 and 1.1; that of the medians would be 1.1 as well, that
        # of the sums more than 2.
        self.assertEqual(calm['off'], {'median': 1.1, 'low': 1.0, 'high': 3.0,
                                       'rounds': 3})
        self.assertEqual(calm['1']['rounds'], 1)

    def test_a_pair_is_of_one_round(self):
        base = [{'cpu': 1.0}, {'cpu': 10.0}, None, {'error': 'x'}]
        mine = [{'cpu': 2.0}, {'cpu': 20.0}, {'cpu': 9.0}, {'cpu': 9.0},
                {'cpu': 9.0}]
        self.assertEqual(self.bench.summary.ratios(mine, base, 'cpu'),
                         [2.0, 2.0])

    def test_less_work_has_its_own_base(self):
        found = self.found()
        self.assertEqual(found['time']['workloads']['wild']['1']['median'], 8)
        self.assertEqual(found['memory']['workloads']['wild']['1']['median'],
                         3)
        self.assertEqual(found['loops'], {'wild': {'1': 3}})

    def test_mean_and_worst(self):
        one = self.found()['time']['modes']['1']
        self.assertAlmostEqual(one['mean'], math.sqrt(2 * 8))
        self.assertEqual((one['worst'], one['worst_name'], one['count']),
                         (8, 'wild', 2))

    def test_errors_are_named(self):
        self.assertEqual(self.found()['errors'], [['slow', '1', 'over 9 s']])

    def test_nothing_measured(self):
        found = self.bench.summary.summarise(
            {'calm': {mode: [] for mode in MODES}}, MODES, 'stock', 'cpu')
        self.assertIsNone(found['time']['modes']['1'])
        out = io.StringIO()
        self.bench.table.print_summary(found, out)
        self.assertRegex(out.getvalue(), r'(?m)^calm( +-){3}$')
        xml.etree.ElementTree.fromstring(self.bench.plot.draw(found))

    def test_exponent(self):
        fit = self.bench.summary.fit_exponent
        for exponent in 0, 0.5, 1, 2:
            points = [(x, 3 * x ** exponent) for x in (10, 100, 1000)]
            self.assertAlmostEqual(fit(points), exponent)
        self.assertIsNone(fit([(10, 1)]))
        self.assertIsNone(fit([(10, 1), (10, 2)]))

    def test_growth_of_snapshots(self):
        report = {'blocks': {
            '10': {'ours': {'dump': 1.0}, 'stock': {'dump': 1.0}},
            '1000': {'ours': {'dump': 10.0}, 'stock': {'error': 'late'}}}}
        growth = self.bench.scaling.exponents(report)['blocks']
        self.assertAlmostEqual(growth['ours']['dump'], 0.5)
        self.assertIsNone(growth['stock']['dump'])
        out = io.StringIO()
        self.bench.table.print_growth(report, {'blocks': growth}, out)
        self.assertRegex(out.getvalue(), r'dump +1\.00 s +10\.00 s +0\.50\n')
        self.assertIn('1000: late', out.getvalue())


class OutputTests(BenchTest):

    def test_table(self):
        out = io.StringIO()
        self.bench.table.print_summary(self.found(), out)
        text = out.getvalue()
        self.assertRegex(text, r'(?m)^calm +2\.00 s +1\.10 +2\.00$')
        self.assertRegex(text, r'(?m)^slow +1\.00 s +1\.00 +-$')
        self.assertRegex(text, r'(?m)^calm +0\.1 MiB +1\.10 +1\.50$')
        self.assertRegex(text, r'(?m)^geometric mean +1\.03 +4\.00$')
        self.assertIn('worst of 1, 2 workloads: wild (8.00), calm (2.00)',
                      text)
        self.assertIn('slow in 1: over 9 s', text)
        self.assertIn('With less work, beside stock doing the same: 1', text)

    def test_quantities(self):
        for step, value, text in (
                ('dump', 2, '2.00 s'), ('dump', 0.0314, '31.40 ms'),
                ('dump', 2e-6, '2.00 us'), ('file_kib', 1536, '1.5 MiB'),
                ('dump', None, '-')):
            self.assertEqual(self.bench.table.quantity(step, value), text)

    def test_plot(self):
        found = self.found()
        found['time']['workloads']['<&"'] = found['time']['workloads'].pop(
            'calm')
        svg = xml.etree.ElementTree.fromstring(self.bench.plot.draw(found))
        self.assertEqual(svg.tag, SVG + 'svg')
        # Off three and 1 two, in time and in memory.
        dots = svg.findall(SVG + 'circle')
        self.assertEqual(len(dots), 10)
        self.assertIn('<&": 2.00', [dot.find(SVG + 'title').text
                                    for dot in dots])
        width, height = float(svg.get('width')), float(svg.get('height'))
        for dot in dots:
            self.assertTrue(0 < float(dot.get('cx')) < width)
            self.assertTrue(0 < float(dot.get('cy')) < height)
        self.assertNotIn('href', self.bench.plot.draw(found))

    def test_instructions_over_the_limit(self):
        rows = [{'name': name, 'base': 1000, 'ours': ours, 'functions':
                 [['list_dealloc', 1, ours]]} for name, ours in
                (('good', 1004), ('bad', 1006), ('lost', 0))]
        self.assertEqual(self.bench.instructions.costly(rows), ['bad', 'lost'])
        out = io.StringIO()
        self.bench.table.print_instructions(
            {'tool': 'valgrind', 'rows': rows, 'limit': 0.5,
             'traced': {'25': rows[1:]}}, out)
        self.assertRegex(out.getvalue(), r'bad +1000\.0 +1006\.0 +\+0\.60 %')
        self.assertIn('\nbad, by function\n   +1005.0  list_dealloc',
                      out.getvalue())
        self.assertNotIn('good, by function', out.getvalue())
        traced = out.getvalue().partition('traced at 25 (valgrind)')[2]
        self.assertRegex(traced, r'^\n.*before +ours')
        self.assertRegex(traced, r'bad +1000\.0 +1006\.0 +\+0\.60 %')

    @unittest.skipUnless(shutil.which('valgrind'), 'needs valgrind')
    def test_traced_instructions(self):
        counting = self.bench.instructions
        snippet = counting.Snippet('list', 'y = [x]', 500, 'x = 1')
        off, one = (sum(counting.per_loop(counting.counter(),
                                          (sys.executable, *options),
                                          snippet).values())
                    for options in ((), counting.tracing('1')))
        self.assertGreater(off, 50)
        self.assertGreater(one, off + 10)

    def test_pyperf_results(self):
        text = json.dumps({'metadata': {'name': 'two'}, 'benchmarks': [
            {'metadata': {'name': 'one'},
             'runs': [{'warmups': [[1, 9.0]],
                       'metadata': {'mem_max_rss': 1 << 30}},
                      {'values': [3.0, 1.0, 2.0],
                       'metadata': {'mem_max_rss': 2048}}]},
            {'runs': [{'values': [5.0]}]}]})
        found = self.bench.pyperf_suite.parse(text)
        self.assertEqual(found, {'one': {'wall': 2.0, 'peak_kib': 2},
                                 'two': {'wall': 5.0, 'peak_kib': 0}})
        mode = self.bench.measure.Mode
        rows = self.bench.pyperf_suite.spread(
            'script', [mode('a', ()), mode('b', ())],
            {'a': [found], 'b': [{'error': 'late'}]})
        self.assertEqual(rows['two'], {'a': [found['two']],
                                       'b': [{'error': 'late'}]})

    def test_page(self):
        data = {'schema': 1, 'suite': 'quick', 'date': '2026-01-02',
                'machine': {'processor': 'P', 'cores': 2, 'memory_gib': 3,
                            'system': 'S', 'load': 0.5,
                            'interpreters': {'off': 'V'}},
                'workloads': self.found(), 'skipped_peers': {'fil': 'why'}}
        source = self.folder / 'run.json'
        source.write_text(json.dumps(data))
        with contextlib.redirect_stdout(io.StringIO()):
            self.bench.run.main(['--doc', str(source),
                           '--doc-dir', str(self.folder / 'page')])
        pages = {path.name: path.read_text()
                 for path in (self.folder / 'page').iterdir()}
        self.assertEqual(sorted(pages), ['machine.txt', 'plot.svg',
                                         'workloads.txt'])
        self.assertIn('fil: skipped, why', pages['workloads.txt'])
        self.assertIn('P, 2 cores', pages['machine.txt'])
        self.assertRegex(pages['machine.txt'], r'(?m)^rounds +3$')
        self.assertRegex(pages['workloads.txt'],
                         r'(?m)^wild +1\.00 s +1\.00 +8\.00$')
        data['native'] = {'skipped': {'memray': 'why'},
                          'summary': data.pop('workloads')}
        del data['skipped_peers']
        pages = self.bench.page.texts(data)
        self.assertEqual(sorted(pages), ['native-machine.txt', 'native.txt'])
        self.assertIn('memray: skipped, why', pages['native.txt'])
        self.assertRegex(pages['native.txt'],
                         r'(?m)^wild +1\.00 s +1\.00 +8\.00$')
        for text in '{', '{"machine": 3}', '[]':
            source.write_text(text)
            with self.subTest(text), self.assertRaisesRegex(
                    SystemExit, 'not written by --json'):
                self.bench.run.main(['--doc', str(source),
                                     '--doc-dir', str(self.folder)])

    def test_files_that_the_page_includes_are_there(self):
        page = TOP / 'Doc' / 'performance.rst'
        included = [line.split('::')[1].strip()
                    for line in page.read_text().splitlines()
                    if line.startswith(('.. literalinclude::', '.. image::'))]
        self.assertGreater(len(included), 2)
        for name in included:
            with self.subTest(name):
                self.assertTrue((page.parent / name).is_file())


@requires_subprocess()
class WorkloadTests(BenchTest):

    def test_all_run(self):
        code = ('import workloads\n'
                'for name, item in workloads.load_all().items():\n'
                '    item.run(1)\n'
                '    print(name)\n')
        done = subprocess.run([sys.executable, '-c', code], cwd=BENCH,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.split(),
                         list(self.bench.workloads.load_all()))

    def test_list(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(self.bench.run.main(['--list']), 0)
        names = [line.split()[1] for line in out.getvalue().splitlines()]
        self.assertEqual(names, list(self.bench.workloads.load_all()))


@requires_subprocess()
class OptionTests(BenchTest):

    def error(self, *arguments):
        done = subprocess.run([sys.executable, BENCH / 'run.py', *arguments],
                              capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, cwd=self.folder)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn('Traceback', done.stderr)
        self.assertEqual(done.stdout, '')
        return done.stderr

    def test_bad_options(self):
        ours = ['--ours', sys.executable]
        for arguments, message in (
                ([], 'nothing to run: give --stock and --ours'),
                (['--ours', 'nowhere'], 'no interpreter at nowhere'),
                ([*ours, '--only', 'of'], 'no mode of; there are off 1 25'),
                ([*ours, '-w', 'nbodi'], 'no workload nbodi; there are'),
                ([*ours, '--rounds', '0'], "positive int value: '0'"),
                ([*ours, '--scale', 'x'], "positive float value: 'x'"),
                ([*ours, '--mode', 'name'], 'write NAME=COMMAND'),
                ([*ours, '--json', 'no/where'], 'no/where: no such directory'),
                ([*ours, '--check'], 'give --stock and --ours'),
                ([*ours, '--peers'], 'give it'),
                ([*ours, '--native'], 'to trace native memory, give --stock'),
                (['--doc', 'nowhere', '--doc-dir', 'page'],
                 'nowhere: No such file'),
                (['--doc', 'nowhere'], 'say where to by --doc-dir')):
            with self.subTest(arguments):
                self.assertIn(message, self.error(*arguments))


@requires_subprocess()
class RunTests(BenchTest):

    def test_native(self):
        """Workloads that need no package, for a round; the budget is used
        up after it."""
        native = self.bench.native
        modes = native.own_modes(sys.executable, sys.executable)
        names = 'json', 'sqlite'
        known = native.native_child.WORKLOADS
        results, said = {}, []
        with unittest.mock.patch.object(
                native.native_child, 'WORKLOADS',
                {name: known[name] for name in names}):
            native.run(modes, self.folder, 3, 120, results, said.append, 0)
        self.assertEqual(said, [f'round 1: {name}' for name in names])
        for name in names:
            for mode in 'stock', 'off', '25', 'native', 'native-10':
                one, = results[name][mode]
                self.assertGreater(one.get('cpu', 0), 0, (name, mode, one))

    def test_holders(self):
        """All steps of ours, with few objects, and their table."""
        child = BENCH / 'holders_child.py'
        found = {}
        for tool in 'ours', 'dominators':
            result = self.folder / tool
            done = subprocess.run(
                [sys.executable, child, tool, '20000', self.folder, result],
                capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            found |= json.loads(result.read_text())
        self.assertGreater(found['dominators_of_random_references'], 0)
        self.assertGreater(found['analysis_bytes_an_object'], 20)
        self.assertLess(found['analysis_bytes_an_object'], 150)
        out = io.StringIO()
        self.bench.table.print_holders(
            {'rows': [[20000, {'ours': found}]], 'skipped': {}}, out)
        for line in (r'pause / collect +\d+\.\d\d', r'file +0\.\d MiB',
                     r'analysis +\d+\.\d MiB', r'analysis an object +\d+ B',
                     r'dominators of random references +\d+\.\d\d ms'):
            self.assertRegex(out.getvalue(), rf'(?m)^ours +{line}$')

    def modes_here(self):
        """The options of all modes; stock's where it has been built."""
        options = ['--ours', sys.executable]
        if sysconfig.is_python_build():
            build = pathlib.Path(sysconfig.get_config_h_filename()).parent
            stock = build.parent / 'unpatched' / 'obj' / 'python'
            if stock.exists():
                return ['--stock', str(stock), *options]
        return ['--mode', 'stock=' + sys.executable, *options]

    def start(self, *options):
        heed_signals(self)
        return subprocess.Popen(
            [sys.executable, BENCH / 'run.py', *options, '--json', 'out.json',
             '--plot', 'out.svg'], cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def read(self):
        return json.loads((self.folder / 'out.json').read_text())

    def test_small_run(self):
        options = self.modes_here()
        process = self.start(*options, '-w', 'nbody,fork_server',
                             '--scale', '0.01', '--rounds', '2')
        out, err = process.communicate()
        self.assertEqual(process.returncode, 0, err)
        self.assertIn('[4/4]', err)
        data = self.read()
        self.assertEqual((data['schema'], data['suite']), (1, 'quick'))
        found = data['workloads']
        self.assertEqual(found['errors'], [])
        wanted = {'stock', 'off', '1', '25', 'full'}
        if '--stock' in options:
            wanted |= {'stock-1', 'stock-25'}
            self.assertEqual(found['base'], 'stock')
            self.assertEqual(set(found['loops']['nbody']),
                             {'stock-1', 'stock-25'})
        self.assertEqual(set(data['machine']['interpreters']), wanted)
        for part in 'time', 'memory':
            self.assertEqual(set(found[part]['workloads']),
                             {'nbody', 'fork_server'})
            for row in found[part]['workloads'].values():
                self.assertEqual(set(row), wanted)
                self.assertEqual({row[mode]['rounds'] for mode in
                                  ('off', '1', '25', 'full')}, {2})
        self.assertGreater(found['memory']['workloads']['nbody']['25']
                           ['median'], found['memory']['workloads']['nbody']
                           ['off']['median'])
        self.assertRegex(out, r'(?m)^fork_server +\S+ ms( +\d+\.\d\d)+$')
        xml.etree.ElementTree.parse(self.folder / 'out.svg')

    def test_interrupt_keeps_what_was_measured(self):
        process = self.start('--ours', sys.executable, '--only', 'off,1',
                             '-w', 'nbody,spectral_norm', '-j', '1',
                             '--rounds', '1000', '--scale', '0.01')
        for line in process.stderr:
            if '[3/2000]' in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn('stopped', err)
        self.assertNotIn('Traceback', err)
        row = self.read()['workloads']['time']['workloads']['nbody']['1']
        self.assertGreaterEqual(row['rounds'], 2)
        self.assertEqual(self.read()['workloads']['errors'], [])
        self.assertRegex(out, r'(?m)^nbody +\d')

    def test_timeout_is_named_and_less_is_tried(self):
        slow = self.bench.measure.Mode('slow', (sys.executable,), share=0.5)
        fast = self.bench.measure.Mode('fast', (sys.executable,))
        item = self.bench.workloads.load_all()['nbody']
        asked = []

        class Clocked(self.bench.measure.Round):
            def child(self, mode, loops):
                asked.append((mode.name, loops))
                if mode is slow and loops > limit:
                    return {'error': 'over 1 s', 'timeout': True}
                return {'cpu': 1.0}

        limit = 10
        self.assertEqual(Clocked(item, fast, 1000, 1).run(slow),
                         {'cpu': 1.0, 'loops': 5, 'base': {'cpu': 1.0}})
        self.assertEqual(asked, [('slow', 500), ('slow', 50), ('slow', 5),
                                 ('fast', 5)])
        limit = 0
        self.assertEqual(Clocked(item, fast, 1000, 1).run(slow)['error'],
                         'over 1 s for 1 of 1000 loops')
        killed = self.bench.measure.Round(item, fast, 10 ** 9, 0.5).run(fast)
        self.assertEqual(killed['error'],
                         'over 0.5 s for 1000000000 of 1000000000 loops')

    def test_a_failing_child_is_named(self):
        broken = self.bench.measure.Mode('broken', (
            sys.executable, '-c', 'raise SystemExit("no luck")'))
        rows = self.bench.measure.alternate([broken], ['child.py', 1], 3, 60)
        self.assertEqual(rows['broken'], [{'error': 'status 1: no luck'},
                                          None, None])

    def test_valgrind_is_installed_where_nothing_counts(self):
        apt = self.folder / 'apt-get'
        apt.write_text('#!/bin/sh\n[ "$2 $3 $4" != "install -y valgrind" ] ||'
                       ' { : > "${0%/*}/valgrind"; '
                       '/bin/chmod +x "${0%/*}/valgrind"; }\n')
        apt.chmod(0o755)
        with os_helper.EnvironmentVarGuard() as environment:
            environment['PATH'] = str(self.folder / 'empty')
            self.assertIsNone(self.bench.instructions.counter())
            environment['PATH'] = str(self.folder)
            with contextlib.redirect_stderr(io.StringIO()) as said, \
                    unittest.mock.patch('os.geteuid', return_value=0):
                name, command = self.bench.instructions.counter()
        self.assertEqual(said.getvalue(), 'installing valgrind\n')
        self.assertEqual((name, command[0]), ('valgrind', 'valgrind'))

    def test_errors_name_no_folders(self):
        last_line = self.bench.measure.last_line
        self.assertEqual(last_line("x\n/a/b/python: no '/c/d e/f' in a/b\n\n"),
                         "python: no 'd e/f' in a/b")
        self.assertEqual(last_line('see https://example.org/a/b'),
                         'see https://example.org/a/b')
        self.assertEqual(last_line(' \n'), 'no result')

    def test_budget_ends_the_rounds(self):
        mode = self.bench.measure.Mode('off', (sys.executable,))
        item = self.bench.workloads.load_all()['nbody']
        results = {}
        self.bench.measure.run_all([mode], [item], results, rounds=50, jobs=1,
                             timeout=60, progress=lambda turn, name: None,
                             scale=0.001, until=0)
        self.assertEqual(len(results['nbody']['off']), 1)


if __name__ == '__main__':
    unittest.main()
