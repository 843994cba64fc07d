"""The table of CPython's test suite: each configuration beside stock.

    compare.py                                what build/suite holds
    compare.py --doc Doc/testing/table.txt    write it for the documentation

run.py has written a file FOLDER/NAME.json for each configuration. A test whose
outcome differs from stock's is a difference. Each difference must have a
reason in patches/SERIES/suite-differences.txt, a line

    TEST CONFIGURATION OUTCOME REASON

where TEST may have wildcards, CONFIGURATION may be several, with commas
between, or *, and OUTCOME is what is seen there: passed, failed, skipped, or
absent if there is no such test. The status is 1 if a difference has no reason,
a file was not run, or the list has a reason that nothing needs. A test that
has failed and then passed counts as passed and is named below the table: such
failures say more about the machine.
"""

import argparse
import fnmatch
import json
import pathlib
import sys
import textwrap

BASE = 'stock'
ORDER = (BASE, 'stock-25', 'off', '1', '25', 'full', 'ignore', 'disable')
OUTCOMES = ('passed', 'failed', 'skipped', 'absent')
HERE = pathlib.Path(__file__).resolve()


class Reason:
    """A line of the list of differences."""

    def __init__(self, number, line):
        parts = line.split(None, 3)
        if len(parts) < 4 or parts[2] not in OUTCOMES:
            raise ValueError(f'line {number}: write TEST CONFIGURATION '
                             f'OUTCOME REASON, OUTCOME one of '
                             f'{", ".join(OUTCOMES)}')
        self.test, configurations, self.outcome, self.text = parts
        self.configurations = configurations.split(',')
        self.number = number
        self.used = 0

    def is_for(self, configuration):
        return any(name in ('*', configuration)
                   for name in self.configurations)

    def explains(self, test, configuration, outcome):
        return (outcome == self.outcome and self.is_for(configuration)
                and fnmatch.fnmatchcase(test, self.test))


def read_reasons(path):
    reasons = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.partition('#')[0].strip()
        if line:
            reasons.append(Reason(number, line))
    return reasons


def read_runs(folder):
    """Return the runs, those in ORDER first."""
    runs = [json.loads(path.read_text()) for path in folder.glob('*.json')]
    if BASE not in [run['name'] for run in runs]:
        raise ValueError(f'{folder} has no {BASE}.json; make it with run.py')
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(runs, key=lambda run: (rank.get(run['name'], len(rank)),
                                         run['name']))


def outcomes(run):
    """{test: outcome} of all files."""
    tests = {}
    for file in run['files'].values():
        tests |= file['tests']
    return tests


def unstable(run):
    return sorted(test for file in run['files'].values()
                  for test in file.get('unstable', ()))


def differences(base, mine):
    """Yield (test, outcome of ours, outcome of stock) where they differ.

    Only tests of files that both have run are compared, and those of files
    that only ours has.
    """
    for test in sorted(base.keys() | mine.keys()):
        stock = base.get(test, 'absent')
        ours = mine.get(test, 'absent')
        if ours != stock:
            yield test, ours, stock


def of_same_files(run, other):
    """Outcomes of the run, without files that *other* has yet to run."""
    if is_complete(other):
        return outcomes(run)
    files = {name: file for name, file in run['files'].items()
             if name in other['files']}
    return outcomes({'files': files})


def explain(runs, reasons):
    """{configuration: [(test, ours, stock, reason or None)]}"""
    base = runs[0]
    found = {}
    for run in runs[1:]:
        rows = found[run['name']] = []
        pairs = differences(of_same_files(base, run),
                            of_same_files(run, base))
        for test, ours, stock in pairs:
            reason = next((reason for reason in reasons
                           if reason.explains(test, run['name'], ours)), None)
            if reason is not None:
                reason.used += 1
            rows.append((test, ours, stock, reason))
    return found


def table(runs, found):
    lines = [f'{"":12}{"files":>8}{"tests":>8}{"passed":>8}{"skipped":>8}'
             f'{"failed":>8}{"unstable":>9}{"differ":>8}{"minutes":>8}']
    for run in runs:
        values = list(outcomes(run).values())
        count = {name: values.count(name) for name in OUTCOMES}
        minutes = sum(file['seconds'] for file in run['files'].values()) / 60
        differ = len(found.get(run['name'], ()))
        lines.append(
            f'{run["name"]:12}{len(run["files"]):8,}{len(values):8,}'
            f'{count["passed"]:8,}{count["skipped"]:8,}{count["failed"]:8,}'
            f'{len(unstable(run)):9,}'
            f'{differ if run["name"] != BASE else "":>8}{minutes:8.0f}')
    return lines


def list_reasons(reasons, found):
    """Each reason that was needed, with the tests it stands for."""
    lines = []
    for reason in reasons:
        rows = [(name, test, stock) for name, rows in found.items()
                for test, _, stock, why in rows if why is reason]
        if not rows:
            continue
        tests = {test for _, test, _ in rows}
        names = ' '.join(dict.fromkeys(name for name, _, _ in rows))
        stock = '/'.join(sorted({stock for _, _, stock in rows}))
        many = '' if len(tests) == 1 else f' ({len(tests):,} tests)'
        lines += ['', f'{reason.test}{many}',
                  f'    {names}: {reason.outcome}; stock: {stock}',
                  *textwrap.wrap(reason.text, 76, initial_indent='    ',
                                 subsequent_indent='    ')]
    return lines


def list_unstable(runs):
    lines = []
    for run in runs:
        if names := unstable(run):
            lines += ['', f'unstable, {run["name"]}',
                      *(f'    {name}' for name in names)]
    return lines


def is_complete(run):
    return len(run['files']) == run['listed']


def complaints(runs, reasons, found, path):
    for run in runs:
        if not is_complete(run):
            missing = run['listed'] - len(run['files'])
            yield f'{run["name"]}: {missing} files are not run yet'
    for name, rows in found.items():
        for test, ours, stock, reason in rows:
            if reason is None:
                yield (f'{name}: {test}: {ours}, stock: {stock}; fix it, or '
                       f'give a reason in {path}')
    for reason in reasons:
        if not reason.used and any(is_complete(run)
                                   and reason.is_for(run['name'])
                                   for run in runs[1:]):
            yield f'{path}, line {reason.number}: no run differs so'


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog='compare.py', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--folder', type=pathlib.Path, default=pathlib.Path('build/suite'),
        help='where run.py has written (default: %(default)s)')
    add('--differences', type=pathlib.Path,
        default=HERE.parents[2] / 'patches/3.14/suite-differences.txt',
        help='the list of reasons')
    add('--doc', type=pathlib.Path, metavar='FILE',
        help='write the table there as well')
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_arguments(argv)
    try:
        reasons = read_reasons(options.differences)
        runs = read_runs(options.folder)
        found = explain(runs, reasons)
        resources = runs[0]['resources']
        lines = [f'-m test -u {resources}', '', *table(runs, found),
                 *list_reasons(reasons, found), *list_unstable(runs)]
        text = '\n'.join(lines) + '\n'
        print(text, end='')
        if options.doc:
            new = options.doc.with_suffix('.new')
            new.write_text(text)
            new.replace(options.doc)
    except (OSError, ValueError, KeyError) as error:
        print(f'compare.py: {error}', file=sys.stderr)
        return 1
    wrong = list(complaints(runs, reasons, found, options.differences))
    for line in wrong:
        print(f'compare.py: {line}', file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
