"""Run the tests under the built interpreter and count them.

Every test module runs in a process of its own, by CPython's regrtest, which
writes what each test did as JUnit XML; this driver starts them, a few at a
time, reads the XML, and closes with the line "N passed, M failed, K skipped".

Run: our tests, all Lib/test/**/test_*.py of the repository, and the stock
tests named in patches/SERIES/stock-tests.txt. A failure counts as skipped if
patches/SERIES/known-failures.txt gives a reason. For our own skipped tests the
reason is printed.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import sysconfig
import time
import xml.etree.ElementTree

# Options of -X for a depth of --trace that is no number.
TRACES = {None: [], 'native': ['tracemalloc=25', 'tracemalloc_native=10']}
WHOLE = re.compile(r'^\S+ skipped -- (.+)', re.MULTILINE)
SUBTEST = re.compile(r'^(?:ERROR|FAIL): \w+ \((test\.[\w.]+)\)', re.MULTILINE)
RULE = re.compile(r'^(?:=|-){70}\n', re.MULTILINE)


class Job:
    """One run of one test module, with the tracer off or at a depth."""

    def __init__(self, module, trace=None):
        self.module = module
        self.trace = trace
        self.passing = []           # test ids
        self.skipped = []           # reasons
        self.failures = []
        self.known = []

    @property
    def passed(self):
        return len(self.passing)

    @property
    def name(self):
        name = self.module.removeprefix('test.')
        return f'{name} (tracing {self.trace})' if self.trace else name

    def run(self, logs, known):
        base = self.name.translate(str.maketrans(' ', '-', '()'))
        report, self.log = logs / f'{base}.xml', logs / f'{base}.log'
        report.unlink(missing_ok=True)
        command = [sys.executable]
        for option in TRACES.get(self.trace, [f'tracemalloc={self.trace}']):
            command += ['-X', option]
        command += ['-m', 'test', '--verbose', '--timeout', '1200',
                    '--junit-xml', str(report), self.module]
        start = time.monotonic()
        with open(self.log, 'w') as log:
            status = subprocess.run(command, stdin=subprocess.DEVNULL,
                                    stdout=log, stderr=log).returncode
        self.seconds = time.monotonic() - start
        if report.exists():
            self._count(report, known)
        # A module that raises SkipTest on import is in no report.
        self.skipped += WHOLE.findall(self.log.read_text(errors='replace'))
        if status not in (0, 4) and not self.failures and not self.known:
            self._name_failures(known, status)
        return self

    def _name_failures(self, known, status):
        """Find in the log what the report lacks: subtests, or a crash."""
        names = set(SUBTEST.findall(self.log.read_text(errors='replace')))
        for name in sorted(names):
            (self.known if name in known else self.failures).append(name)
        self.passing = [name for name in self.passing if name not in names]
        if not names:
            self.failures.append(f'{self.name} (exit code {status})')

    def reasons(self):
        """{test id: what ended its first failure}, from the log."""
        parts = RULE.split(self.log.read_text(errors='replace'))
        found = {}
        for head, trace in zip(parts, parts[1:]):
            if name := SUBTEST.match(head):
                # The last line that is not indented, and what follows it.
                lines = trace.partition('\n\nStdout:')[0].rstrip().split('\n')
                last = max((number for number, line in enumerate(lines)
                            if line.startswith('Traceback')), default=0)
                ending = [line for line in lines[last + 1:]
                          if line[:1].strip()]
                found.setdefault(name[1], ' '.join(ending)[:500])
        return found

    def _count(self, report, known):
        for case in xml.etree.ElementTree.parse(report).iter('testcase'):
            name = case.get('name')
            outcome = {child.tag for child in case}
            if outcome & {'failure', 'error'}:
                (self.known if name in known else self.failures).append(name)
            elif 'skipped' in outcome:
                self.skipped.append(case.find('skipped').text)
            else:
                self.passing.append(name)


def read_list(path):
    """The lines of a list, without comments."""
    lines = (line.partition('#')[0].strip()
             for line in path.read_text().splitlines())
    return [line for line in lines if line]


def known_failures(path):
    """{test id: reason}; a reason that opens with freelists=FLAVOUR counts in
    that flavour only."""
    flavour = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
    known = {}
    for line in read_list(path):
        name, reason = line.split(None, 1)
        if not reason.startswith('freelists=') or reason.startswith(
                f'freelists={flavour} '):
            known[name] = reason
    return known


def own_tests(top):
    library = top / 'Lib'
    return ['.'.join(path.relative_to(library).with_suffix('').parts)
            for path in sorted(library.glob('test/**/test_*.py'))]


def all_stock_tests():
    """Every stock test; the directories that regrtest splits, split."""
    listing = subprocess.run([sys.executable, '-m', 'test', '--list-tests'],
                             capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.split()
            if 'test_pytracemalloc' not in name]


def select(options):
    """The jobs to run, in order."""
    own = own_tests(options.top)
    queue = options.top / 'patches' / options.series
    stock = read_list(queue / 'stock-tests.txt')
    if options.all:
        stock = all_stock_tests()
    if options.tests:
        wanted = [name.removeprefix('test.') for name in options.tests]
        own = [name for name in own
               if any(name.removeprefix('test.').endswith(w) for w in wanted)]
        found = {name.rpartition('.')[2] for name in own}
        found |= {name.removeprefix('test.') for name in own}
        stock = [name for name in wanted if name not in found]
    jobs = [Job(name) for name in own + stock]
    for trace in options.trace.split():
        jobs += [Job(name, trace) for name in stock]
    return jobs


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--top', type=pathlib.Path, required=True,
                        help='the repository')
    parser.add_argument('--series', required=True)
    parser.add_argument('--trace', default='',
                        help='run the stock tests also with -X tracemalloc=N'
                             ' for each N of this list; native is 25 with'
                             ' native memory and its C frames')
    parser.add_argument('--all', action='store_true',
                        help='all stock tests, and the slow parts of ours')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--logs', type=pathlib.Path,
                        default=pathlib.Path('build/check'))
    parser.add_argument('tests', nargs='*', help='only these modules')
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.top = options.top.resolve()
    queue = options.top / 'patches' / options.series
    known = known_failures(queue / 'known-failures.txt')
    logs = options.logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    # Tests expect an interpreter that nobody has configured, and no make.
    slow = options.all or os.environ.get('PYTRACEMALLOC_SLOW') == '1'
    for name in list(os.environ):
        if name.startswith(('PYTHON', 'PYTRACEMALLOC', 'MAKE', 'MFLAGS')):
            del os.environ[name]
    # Nor one that ignores Ctrl-C, as a shell's background jobs do.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ['PYTRACEMALLOC_TOP'] = str(options.top)
    os.environ['PYTRACEMALLOC_SLOW'] = str(int(slow))

    jobs = select(options)
    own = own_tests(options.top)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(job.run, logs, known) for job in jobs]
        for number, future in enumerate(
                concurrent.futures.as_completed(futures), 1):
            job = future.result()
            failed += job.failures
            print(f'[{number}/{len(jobs)}] {job.name}: {job.passed} passed,'
                  f' {len(job.failures)} failed,'
                  f' {len(job.skipped) + len(job.known)} skipped'
                  f' ({job.seconds:.0f} s)', flush=True)
            reasons = job.reasons() if job.failures else {}
            for name in job.failures:
                print(f'    FAILED {name}: {reasons.get(name, "no reason")},'
                      f' see {job.log}', flush=True)
            for name in job.known:
                print(f'    known failure {name}: {known[name]}', flush=True)
    reasons = collections.Counter(
        reason for job in jobs if job.module in own for reason in job.skipped)
    if reasons:
        print(f'{reasons.total()} of our own tests skipped:')
        for reason, count in reasons.most_common():
            print(f'    {count} {reason}')
    passed = sum(job.passed for job in jobs)
    skipped = sum(len(job.skipped) + len(job.known) for job in jobs)
    print(f'{passed} passed, {len(failed)} failed, {skipped} skipped')
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
