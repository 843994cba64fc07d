"""Prove that the patch queues are in order.

Every patch in patches/ has its header and is named by a series. For each
series and every release in its upstream.lock that can be had, the queue
applies without fuzz, and the census of hooks and free lists agrees. The first
release is the one that is built, so it must be there: `make refresh-patches`
would change nothing. In the tree of this build, the files generated from
bytecodes.c are what the generators make of it.
"""
import argparse
import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import census

TOOLS = pathlib.Path(__file__).parent
FIELDS = ('Description', 'Author', 'Forwarded', 'Last-Update')
PARK = re.compile(r'^\+.*_PyTracer_(?:UN)?PARK(?:_GC|_HOT|_LISTED)?\(',
                  re.MULTILINE)
INCLUDE = re.compile(r'^\+#include "pycore_tracer', re.MULTILINE)
GENERATED = (
    # generator, file, further input
    ('opcode_id_generator', 'Include/opcode_ids.h'),
    ('target_generator', 'Python/opcode_targets.h'),
    ('uop_id_generator', 'Include/internal/pycore_uop_ids.h'),
    ('py_metadata_generator', 'Lib/_opcode_metadata.py'),
    ('tier1_generator', 'Python/generated_cases.c.h'),
    ('tier2_generator', 'Python/executor_cases.c.h'),
    ('optimizer_generator', 'Python/optimizer_cases.c.h',
     'Python/optimizer_bytecodes.c'),
    ('opcode_metadata_generator', 'Include/internal/pycore_opcode_metadata.h'),
    ('uop_metadata_generator', 'Include/internal/pycore_uop_metadata.h'),
)


def lint(path):
    """What is wrong with the header of a patch."""
    header, _, hunks = path.read_text().partition('\n--- a/')
    fields = dict(re.findall(r'^([A-Z][\w-]*): *(.*)', header, re.MULTILINE))
    problems = [f'{path.name}: no {name} field in the header'
                for name in FIELDS if not fields.get(name)]
    if fields.get('X-Context', '3') not in ('1', '2', '3'):
        problems.append(f'{path.name}: X-Context is'
                        f' {fields["X-Context"]!r}; give the lines of context'
                        f' around a hunk, 1 to 3')
    forwarded = fields.get('Forwarded', '')
    if not re.match(r'https://\S+|no\b|not-needed, \w', forwarded):
        problems.append(f'{path.name}: Forwarded is {forwarded!r}; give a'
                        f' link, or "no" or "not-needed" and the reason')
    if not re.fullmatch(r'\d{4}-\d\d-\d\d', fields.get('Last-Update', '')):
        problems.append(f'{path.name}: Last-Update is not a date')
    hooks = len(PARK.findall(hunks))
    if hooks != int(fields.get('X-Hooks', 0)):
        problems.append(f'{path.name}: X-Hooks says'
                        f' {fields.get("X-Hooks", "nothing")}, the patch adds'
                        f' {hooks} free-list hooks')
    for text in re.split(r'^--- a/', hunks, flags=re.MULTILINE):
        name = text.partition('\n')[0]
        if INCLUDE.search(text) and not name.endswith('pycore_tstate.h'):
            problems.append(f'{path.name}: {name} need not include a header of'
                            f' ours; pycore_tstate.h does')
    for name in re.findall(r'^(?:--- a|\+\+\+ b)/(\S+)', hunks, re.MULTILINE):
        if any(name == row[1] for row in GENERATED) or 'clinic/' in name:
            problems.append(f'{path.name}: {name} is generated; patch its'
                            f' source')
    return problems


def read_series(path):
    """The patches that a file `series` names."""
    names = [line.partition('#')[0].strip()
             for line in path.read_text().splitlines()]
    return [(path.parent / name).resolve() for name in names if name]


def lint_all(patches):
    """What is wrong with the headers, and with the files `series`."""
    problems, named = [], set()
    for series in sorted(patches.glob('*/series')):
        paths = read_series(series)
        named.update(paths)
        problems += [f'{series.parent.name}/series: two patches are named'
                     f' {name}' for name, n in collections.Counter(
                         path.name for path in paths).items() if n > 1]
    there = sorted(path.resolve() for path in patches.glob('*/*.patch'))
    for path in there:
        if path not in named:
            problems.append(f'{path.parent.name}/{path.name}: no series names'
                            f' it')
        problems += lint(path)
    return problems + [f'{path.parent.name}/{path.name}: named by a series,'
                       f' but not there' for path in sorted(named - {*there})]


def run(*command):
    return subprocess.run([str(word) for word in command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def last_line(result):
    lines = result.stdout.strip().splitlines()
    return lines[-1] if lines else f'exit code {result.returncode}'


def check_release(series, version, queue, first):
    """Apply the queue to a release; return (problems, remark)."""
    fetched = subprocess.run([TOOLS / 'fetch', series, version],
                             stdout=subprocess.PIPE, text=True)
    if fetched.returncode:
        return ([f'CPython {version}: cannot be had'] if first else [],
                'skipped, it cannot be had here')
    with tempfile.TemporaryDirectory() as folder:
        for step in ([TOOLS / 'unpack', series, folder,
                      fetched.stdout.strip()],
                     [TOOLS / 'apply', series, folder]):
            result = run(*step)
            if result.returncode:
                return [f'CPython {version}: {last_line(result)}'], 'fails'
        log = (pathlib.Path(folder) / 'patches.log').read_text()
        offsets = [abs(int(number))
                   for number in re.findall(r'\(offset (-?\d+) line', log)]
        problems = [f'CPython {version}: census: {problem}'
                    for problem in census.check(pathlib.Path(folder, 'src'),
                                                queue / 'census.txt')]
        if first:
            problems += check_refresh(series, folder, queue)
    return problems, f'applies, {len(offsets)} hunks with an offset' + (
        f' (at most {max(offsets)} lines)' if offsets else '')


def check_generated(source):
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for generator, name, *more in GENERATED:
            output = pathlib.Path(folder, pathlib.Path(name).name)
            inputs = [source / path for path in (*more, 'Python/bytecodes.c')]
            result = run(sys.executable, source / 'Tools' / 'cases_generator' /
                         f'{generator}.py', '-o', output, *inputs)
            if result.returncode:
                problems.append(f'{generator}: {last_line(result)}')
            elif without_header(output) != without_header(source / name):
                problems.append(f'{name}: not what {generator}.py makes of'
                                f' bytecodes.c; run make')
    return problems


def without_header(path):
    """The text, without the opening comment: it holds the inputs' paths."""
    lines = path.read_text().splitlines()
    while lines and lines[0].startswith(('//', '# ')):
        del lines[0]
    return lines


def check_refresh(series, build, queue):
    """Refresh a copy of the repository's queue; it must not change."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(TOOLS, pathlib.Path(folder, 'Tools'))
        patches = pathlib.Path(folder, 'patches')
        shutil.copytree(queue.parent, patches)
        result = run(pathlib.Path(folder, 'Tools', 'refresh'), series, build)
        if result.returncode:
            return [last_line(result)]
        copies = ((path, patches / path.relative_to(queue.parent))
                  for path in sorted(queue.parent.glob('*/*.patch')))
        return [f'{path.name}: not canonical, or its file was edited in the'
                f' tree; run make refresh-patches'
                for path, copy in copies
                if path.read_bytes() != copy.read_bytes()]


def check_series(queue):
    """Return what is wrong with a queue, for all of its releases."""
    problems = []
    lock = (queue / 'upstream.lock').read_text().splitlines()
    versions = [line.split()[0] for line in lock
                if line and not line.startswith('#')]
    for version in versions:
        found, remark = check_release(queue.name, version, queue,
                                      version == versions[0])
        print(f'CPython {version}: {remark}', flush=True)
        problems += found
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--top', type=pathlib.Path, required=True)
    parser.add_argument('--series', required=True)
    parser.add_argument('--build', type=pathlib.Path, required=True)
    options = parser.parse_args()
    build = options.build.resolve()

    problems = lint_all(options.top / 'patches')
    for lock in sorted(options.top.glob('patches/*/upstream.lock')):
        problems += check_series(lock.parent)
    # What was edited in the tree of this build, too.
    problems += check_refresh(options.series, build,
                              options.top / 'patches' / options.series)
    problems += check_generated(build / 'src')
    for problem in problems:
        print(f'patch-check: {problem}', file=sys.stderr)
    if not problems:
        print('patch-check: headers, canonical form and generated files are'
              ' in order')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
