"""What tracing costs: the same workloads, side by side, in one run.

    run.py --stock PYTHON --ours PYTHON            all modes, quick list
    run.py --stock PYTHON --ours PYTHON --full     every workload, more rounds
    run.py --mode a="PYTHON -X opt" --mode b=...   any command lines; the
                                                   first one is the base
    run.py --stock S --ours O --only stock,1 -w nbody,go    a part of it
    run.py --stock S --ours O --all --full         all of the below as well
    run.py --stock S --ours O --peers              beside memray, Fil, Scalene
    run.py --stock S --ours O --pyperformance      pyperformance instead
    run.py --stock S --ours O --scaling            start-up and snapshots only
    run.py --stock S --ours O --threads            1 to 8 threads that allocate
    run.py --stock S --ours O --holders            who holds it, beside Heapy
                                                   and objgraph
    run.py --stock S --ours O --native             libraries that allocate in
                                                   C, beside memray
    run.py --stock S --ours O --instructions       instruction counts only
    run.py --stock S --ours O --check              the same; fails if one
                                                   snippet costs 0.5 % more
    run.py --stock S --ours O --check --before B   traced as well, beside ours
                                                   before a change
    run.py --doc FILE.json --doc-dir DIR           write the figures of the
                                                   page Doc/performance.rst
    run.py --list                                  the workloads

PYTHON is an interpreter or a build directory that has one.  Ctrl-C ends a
run early: what was measured until then is printed and written.
"""

import pathlib
import signal
import sys
import time

import modes
import page
import stages
import workloads

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from arguments import interpreter, make_parser, positive

INTERRUPTED = 130


def parse_arguments(argv):
    parser = make_parser('run.py', __doc__)
    add = parser.add_argument
    add('--stock', metavar='PYTHON', type=interpreter,
        help='CPython without the tracer: the base of all ratios')
    add('--ours', metavar='PYTHON', type=interpreter,
        help='CPython with the tracer')
    add('--mode', metavar='NAME=COMMAND', action='append', default=[],
        help='one more mode; may be repeated')
    add('--only', metavar='MODES', help='run these modes only: a,b,...')
    add('-w', '--workloads', metavar='NAMES',
        help='run these workloads only: a,b,...')
    add('--full', action='store_true',
        help='all workloads, seven rounds (default: the quick list, three)')
    add('--rounds', type=positive(int), help='rounds per workload')
    add('--slow-rounds', type=positive(int),
        help="rounds of stock's tracemalloc and of the peers")
    add('--scale', type=positive(float), default=1.0,
        help='multiply the loops of each workload')
    add('-j', '--jobs', type=positive(int),
        help='workloads at a time (default: the number of cores)')
    add('--timeout', type=positive(float),
        help='seconds that one process may take (20; with --full 60)')
    add('--budget', type=positive(float),
        help='seconds after which no further round of the workloads starts '
             '(360; with --full 1000)')
    add('--clock', choices=('cpu', 'wall'), default='cpu',
        help='which seconds the table compares (default: cpu, as it does '
             "not see the machine's other work)")
    add('--all', action='store_true',
        help='workloads, peers, pyperformance, scaling, threads, holders, '
             'native memory and instructions')
    add('--peers', action='store_true',
        help='add the profilers of PyPI as modes; what is missing is named')
    add('--pyperformance', metavar='NAMES', nargs='?', const='',
        help="run benchmarks of pyperformance instead: a,b,... or all "
             '(default: a choice)')
    add('--scaling', action='store_true',
        help='time start-up and snapshots instead')
    add('--threads', action='store_true',
        help="time threads that allocate, beside stock's tracemalloc, "
             'instead')
    add('--holders', action='store_true',
        help='capture references and ask who holds objects, beside Heapy and '
             'objgraph, instead')
    add('--native', action='store_true',
        help='trace native memory of libraries, beside memray, instead')
    add('--instructions', action='store_true',
        help='count the instructions of untraced snippets instead')
    add('--check', action='store_true',
        help='the same, with status 1 over the limit')
    add('--before', metavar='PYTHON', type=interpreter,
        help='ours before a change: count snippets that are traced as well, '
             'and compare with it')
    add('--plot', metavar='FILE', help='draw the table there, as SVG')
    add('--json', metavar='FILE', help='write all measurements there')
    add('--doc', metavar='FILE.json',
        help='write text and plot of the page from an earlier run')
    add('--doc-dir', metavar='DIR', type=pathlib.Path,
        help='where to: a folder of Doc/performance')
    add('--list', action='store_true', help='list the workloads and stop')
    return parser.parse_args(argv)


def run_stages(args, report):
    """Run what was asked for; return the exit status."""
    counted = args.instructions or args.check
    parts = (counted or args.scaling or args.threads
             or args.holders or args.native
             or args.pyperformance is not None)
    status = 0
    if args.all or not parts:
        stages.measure_workloads(args, report)
    if args.all or args.pyperformance is not None:
        stages.measure_pyperformance(args, report)
    if args.all or args.scaling:
        stages.measure_scaling(args, report)
    if args.all or args.threads:
        stages.measure_threads(args, report)
    if args.all or args.holders:
        stages.measure_holders(args, report)
    if args.all or args.native:
        stages.measure_native(args, report)
    if args.all or counted:
        costly = stages.count_instructions(args, report)
        if args.check and costly:
            print('run.py: costs over the limit: '
                  + ', '.join(costly) + '; the lists above say in which '
                  'functions', file=sys.stderr)
            status = 1
    return status


def main(argv=None):
    args = parse_arguments(argv)
    if args.list:
        for item in workloads.load_all().values():
            quick = 'quick' if item.quick else 'full '
            print(f'{quick} {item.name:22} {item.about}')
        return 0
    if args.doc:
        if args.doc_dir is None:
            raise SystemExit('run.py: --doc: say where to by --doc-dir, '
                             'Doc/performance/3.14')
        page.write(pathlib.Path(args.doc), args.doc_dir)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.time()
    report = stages.Report(args, modes.choose(args))
    try:
        status = run_stages(args, report)
    except KeyboardInterrupt:
        print('\nrun.py: stopped; what was measured until then is above',
              file=sys.stderr)
        status = INTERRUPTED
    finally:
        report.save()
    print(f'\n{time.time() - started:.0f} s')
    for file in filter(None, (args.json, args.plot)):
        if pathlib.Path(file).exists():
            print(f'written: {file}')
    return status


if __name__ == '__main__':
    sys.exit(main())
