"""Run CPython's whole test suite in one configuration; write what each did.

    run.py --python build/unpatched/obj stock
    run.py --python build/obj off
    run.py --python build/obj --trace 25 25
    run.py --python build/obj --trace full --seconds 240 full
    run.py --python build/obj off test_gc test_json     these files only

Each file of tests runs in a process of its own, by CPython's regrtest, with
all resources but those that need a network, a display or a sound card. What
has failed is run once more at the end, alone: a test that passes then is
"unstable", not failed.

After each file of tests, its outcomes are added to FOLDER/NAME.json, which
also names the build. Files that were run with the same interpreter and library
are not run again, so a run may end at any time (--seconds, Ctrl-C) and go on
later. The status is
0 when all is done, whatever the outcomes; 3 if some files are left; 1 if the
run could not go on. compare.py prints the table of all configurations.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from arguments import interpreter, make_parser, positive

RESOURCES = 'all,-network,-urlfetch,-gui,-audio'
TIMEOUT = 1200                    # seconds for one file
LEFT = 3
NO_TESTS_RAN = 4                  # of regrtest; 3: something was left behind
FINE = (0, 3, NO_TESTS_RAN)
# Failed subtests stand in the log alone, not in the report.
FAILED_LINE = re.compile(r'^(?:ERROR|FAIL): \w+ \(([\w.]+)\)', re.M)
SUBTEST = re.compile(r'([\w.]+) [\[(].*', re.S)
WORST = ('passed', 'skipped', 'failed')
# What the interpreter itself says of its files and its version.
ASK = '''
import json, sys, sysconfig
print(json.dumps([sys.version, sys.executable, sysconfig.get_path('stdlib'),
                  [p for p in sys.path if 'lib-dynload' in p
                                       or '/build/lib.' in p]]))
'''


class Run:
    """The files of one configuration and what they did."""

    def __init__(self, options):
        self.options = options
        self.python = without_links(options.python)
        self.path = options.folder / f'{options.name}.json'
        self.logs = options.folder / options.name
        self.logs.mkdir(parents=True, exist_ok=True)
        self.test = ['-m', 'test']
        if options.testdir:
            self.test += ['--testdir', str(options.testdir.absolute())]
        self.environment = environment(options.trace, options.top)
        version, build = identity(self.python, self.environment)
        self.state = {'name': options.name, 'version': version,
                      'build': build, 'trace': options.trace,
                      'resources': RESOURCES, 'listed': 0, 'files': {}}
        known = read(self.path)
        if known and all(known.get(key) == self.state[key]
                         for key in ('build', 'trace', 'resources')):
            self.state = known
        self.files = self.state['files']

    def names(self):
        listed = self.run_python(*self.test, '--list-tests').split()
        self.state['listed'] = len(listed)
        wanted = self.options.files
        for name in wanted:
            if name not in listed:
                raise ValueError(f'{name}: no such file of tests; '
                                 f'{self.python} -m test --list-tests '
                                 f'shows all')
        return wanted or listed

    def run_python(self, *arguments):
        return subprocess.run([self.python, *arguments], check=True,
                              env=self.environment, capture_output=True,
                              text=True, timeout=TIMEOUT).stdout

    def run_file(self, name):
        """Run one file; return its results as they stand in the JSON."""
        report = self.logs / f'{name}.xml'
        report.unlink(missing_ok=True)
        log = self.logs / f'{name}.log'
        start = time.monotonic()
        # Not in the build: some tests skip where that has a long name.
        with open(log, 'w') as out, tempfile.TemporaryDirectory(
                ignore_cleanup_errors=True) as place:
            process = subprocess.Popen(
                [self.python, *self.test, '-v', '-u', RESOURCES, '--timeout',
                 str(TIMEOUT), '--tempdir', place, '--junit-xml', report,
                 name],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self.environment, start_new_session=True)
            try:
                status = process.wait(TIMEOUT + 60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
        seconds = round(time.monotonic() - start, 1)
        text = log.read_text(errors='replace')
        tests = outcomes(report, name, status, text)
        return {'seconds': seconds, 'status': status, 'tests': tests}

    def save(self):
        new = self.path.with_suffix('.new')
        new.write_text(json.dumps(self.state, indent=0, sort_keys=True))
        new.replace(self.path)

    def work(self, names, jobs, note):
        """Run files until all are done or the time is up; count the rest."""
        left = list(names)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            running = {}
            while running or (left and not self.is_late()):
                while left and len(running) < jobs and not self.is_late():
                    name = left.pop(0)
                    running[pool.submit(self.run_file, name)] = name
                done, _ = concurrent.futures.wait(
                    running, return_when='FIRST_COMPLETED')
                for future in done:
                    note(running.pop(future), future.result())
                    self.save()
        return len(left)

    def is_late(self):
        return time.monotonic() > self.options.deadline

    def note_first(self, name, result):
        self.files[name] = result
        print_line(name, result)

    def note_again(self, name, result):
        """A test that fails once and passes once is unstable."""
        first = self.files[name]['tests']
        second = result['tests']
        unstable = sorted(test for test, outcome in first.items()
                          if outcome == 'failed'
                          and second.get(test, 'passed') == 'passed')
        if second.get(f'test.{name}') == 'failed':    # crashed
            unstable = []
            second = first | second
        result['unstable'] = unstable
        result['tests'] = second
        result['again'] = True
        self.files[name] = result
        print_line(name, result)


def outcomes(report, name, status, log):
    """{test id: passed, failed or skipped}; the file itself stands for what
    has no id: that it crashed, or was skipped as a whole."""
    tests = {}
    try:
        cases = xml.etree.ElementTree.parse(report).iter('testcase')
    except (OSError, xml.etree.ElementTree.ParseError):
        cases = ()
    for case in cases:
        parts = {child.tag for child in case}
        # A skipped subtest has its parameters behind the name of the test.
        test = SUBTEST.sub(r'\1', case.get('name', ''))
        if not test:
            continue
        outcome = ('failed' if parts & {'failure', 'error'} or
                   case.get('outcome') == 'UNEXPECTED_SUCCESS' else
                   'skipped' if 'skipped' in parts else 'passed')
        tests[test] = max(outcome, tests.get(test, outcome),
                          key=WORST.index)
    if status not in FINE:
        for test in FAILED_LINE.findall(log):
            tests[test] = 'failed'
        if 'failed' not in tests.values():
            tests[f'test.{name}'] = 'failed'
    elif not tests:
        tests[f'test.{name}'] = 'skipped'
    return tests


def identity(python, environment):
    """Return (version, digest of the interpreter and its library)."""
    told = subprocess.run([python, '-c', ASK], env=environment, check=True,
                          capture_output=True, text=True, timeout=60)
    version, program, library, shared = json.loads(told.stdout)
    digest = hashlib.sha256()
    files = [pathlib.Path(program)]
    for folder, suffixes in [(library, ('.py',))] + [
            (folder, ('.so', '.py')) for folder in shared]:
        for base, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(set(folders)
                                - {'__pycache__', 'site-packages'})
            files += [pathlib.Path(base, name) for name in sorted(names)
                      if name.endswith(suffixes)]
    for path in files:
        digest.update(f'{path.name}\0'.encode())
        digest.update(path.read_bytes())
    return version, digest.hexdigest()


def without_links(python):
    """Some tests compare paths of the build with such paths resolved. The
    file itself may be a link: a virtual environment has one."""
    path = pathlib.Path(python)
    return str(path.parent.resolve() / path.name)


def environment(trace, top):
    """Tests expect an interpreter that nobody has configured, and no make."""
    result = {name: value for name, value in os.environ.items()
              if not name.startswith(('PYTHON', 'PYTRACEMALLOC', 'MAKE',
                                      'MFLAGS'))}
    result['PYTRACEMALLOC_TOP'] = str(top)
    if trace:
        result['PYTHONTRACEMALLOC'] = trace
    return result


def read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def print_line(name, result):
    values = list(result['tests'].values())
    print(f'{name}: {values.count("passed")} passed, '
          f'{values.count("failed")} failed, '
          f'{values.count("skipped")} skipped ({result["seconds"]:.0f} s)',
          flush=True)
    for test, outcome in result['tests'].items():
        if outcome == 'failed':
            print(f'    failed: {test}', flush=True)


def configuration(text):
    if not re.fullmatch(r'[\w-]+', text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a name; use letters, digits and -')
    return text


def parse_arguments(argv):
    parser = make_parser('run.py', __doc__)
    add = parser.add_argument
    add('name', type=configuration, help='what the configuration is called')
    add('files', nargs='*', help='files of tests (default: all)')
    add('--python', required=True, type=interpreter,
        help='interpreter, or a build directory that has one')
    add('--trace', default='', help='frames: 1, 25, full (default: off)')
    add('--top', type=pathlib.Path,
        default=pathlib.Path(__file__).resolve().parents[2],
        help='the repository')
    add('--folder', type=pathlib.Path, default=pathlib.Path('build/suite'),
        help='where results go (default: %(default)s)')
    add('--testdir', type=pathlib.Path,
        help="run the files of this folder instead of the library's")
    add('--jobs', type=positive(int), default=2,
        help='files at a time (default: %(default)s)')
    add('--seconds', type=positive(int),
        help='begin no file after so many seconds')
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_arguments(argv)
    options.folder = options.folder.absolute()
    options.deadline = time.monotonic() + (options.seconds or float('inf'))
    # Tests do not expect that Ctrl-C is ignored, as in a shell's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run = Run(options)
        names = run.names()
        new = [name for name in names if name not in run.files]
        left = run.work(new, options.jobs, run.note_first)
        if not left:
            again = [name for name in names
                     if 'failed' in run.files[name]['tests'].values()
                     and 'again' not in run.files[name]]
            left = run.work(again, 1, run.note_again)
        run.save()
    except subprocess.CalledProcessError as error:
        last = (error.stderr or '').strip().rpartition('\n')[2]
        print(f'run.py: {options.python} does not work: {last}',
              file=sys.stderr)
        return 1
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f'run.py: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f'{options.name}: {left} files left', flush=True)
    return LEFT if left else 0


if __name__ == '__main__':
    sys.exit(main())
