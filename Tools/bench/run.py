"""What tracing costs: the same workloads, side by side, in one run.

    run.py --stock PYTHON --ours PYTHON            all modes, quick list
    run.py --stock PYTHON --ours PYTHON --full     every workload, more rounds
    run.py --mode a="PYTHON -X opt" --mode b=...   any command lines; the
                                                   first one is the base
    run.py --stock S --ours O --only stock,1 -w nbody,go    a part of it
    run.py --stock S --ours O --all --full         all of the below as well
    run.py --stock S --ours O --peers              beside memray, Fil, Scalene
    run.py --stock S --ours O --scaling            start-up and snapshots only
    run.py --stock S --ours O --instructions       instruction counts only
    run.py --stock S --ours O --check              the same; fails if untraced
                                                   costs over 0.5 % more
    run.py --list                                  the workloads

PYTHON is an interpreter or a build directory that has one.
"""

import argparse
import json
import os
import pathlib
import shlex
import sys
import time

import instructions
import machine
import measure
import peers
import plot
import scaling
import summary as figures
import table
import workloads

# Modes of each interpreter: a name and its options.  Those that stock needs
# minutes for run one round in the quick list.
STOCK_MODES = (('stock', ()), ('stock-1', ('-X', 'tracemalloc=1')),
               ('stock-25', ('-X', 'tracemalloc=25')))
OUR_MODES = (('off', ()), ('1', ('-X', 'tracemalloc=1')),
             ('25', ('-X', 'tracemalloc=25')),
             ('full', ('-X', 'tracemalloc=full')))


def interpreter(path):
    """Return the interpreter that a command line argument means."""
    path = pathlib.Path(path)
    if path.is_dir():
        path /= 'python'
    if not os.access(path, os.X_OK):
        raise SystemExit(f'run.py: {path}: no interpreter there; name one, '
                         'or a build directory')
    return str(path.absolute())


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
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
    add('--rounds', type=int, help='rounds per workload')
    add('--slow-rounds', type=int, help="rounds of stock's tracemalloc")
    add('--scale', type=float, default=1.0,
        help='multiply the loops of each workload')
    add('-j', '--jobs', type=int, default=None,
        help='workloads at a time (default: the number of cores)')
    add('--timeout', type=float, default=None,
        help='seconds that one process may take (60; with --full 600)')
    add('--clock', choices=('cpu', 'wall'), default='cpu',
        help='which seconds the table compares (default: cpu, as it does '
             "not see the machine's other work)")
    add('--all', action='store_true',
        help='workloads, peers, scaling and instructions')
    add('--peers', action='store_true',
        help='add the profilers of PyPI as modes; what is missing is named')
    add('--scaling', action='store_true',
        help='time start-up and snapshots instead')
    add('--instructions', action='store_true',
        help='count the instructions of untraced snippets instead')
    add('--check', action='store_true',
        help='the same, with status 1 over the limit')
    add('--plot', metavar='FILE', help='draw the table there, as SVG')
    add('--json', metavar='FILE', help='write all measurements there')
    add('--list', action='store_true', help='list the workloads and stop')
    return parser.parse_args(argv)


def choose_modes(args):
    """Return the modes to run, the base first."""
    modes = []
    slow = args.slow_rounds or (3 if args.full else 1)
    for python, known in ((args.stock, STOCK_MODES), (args.ours, OUR_MODES)):
        for name, options in known if python else ():
            rounds = slow if name.startswith('stock-') else None
            modes.append(measure.Mode(name, (python, *options), rounds))
    for text in args.mode:
        name, equals, command = text.partition('=')
        if not (name and equals and command):
            raise SystemExit(f'run.py: --mode {text}: write NAME=COMMAND')
        modes.append(measure.Mode(name, tuple(shlex.split(command))))
    if args.only:
        modes = pick(modes, args.only, 'mode')
    if not modes:
        raise SystemExit('run.py: nothing to run: give --stock and --ours, '
                         'or --mode')
    return modes


def pick(items, names, kind):
    """Return the items with these names; an unknown name ends the run."""
    known = {item.name: item for item in items}
    wanted = [name.strip() for name in names.split(',')]
    for name in wanted:
        if name not in known:
            raise SystemExit(f'run.py: no {kind} {name}; there are '
                             + ' '.join(known))
    return [known[name] for name in wanted]


def choose_workloads(args):
    every = list(workloads.load_all().values())
    if args.workloads:
        return pick(every, args.workloads, 'workload')
    return [item for item in every if args.full or item.quick]


def show_progress(total):
    done = 0

    def progress(name):
        nonlocal done
        done += 1
        print(f'[{done}/{total}] {name}', file=sys.stderr, flush=True)
    return progress


def add_peers(args, modes, chosen, timeout, rounds):
    """Add the peers that work here, say which do not."""
    if not args.stock:
        raise SystemExit('run.py: --peers compares with --stock; give it')
    found, skipped = peers.modes(args.stock, chosen[0], timeout, rounds)
    for name, why in skipped.items():
        print(f'{name}: skipped, {why}')
    return modes + found, skipped


def measure_workloads(args, chosen):
    """Run the workloads, print the table, return what goes into the JSON."""
    modes = choose_modes(args)
    timeout = args.timeout or (600 if args.full else 60)
    skipped = {}
    if args.peers or args.all:
        modes, skipped = add_peers(args, modes, chosen, timeout,
                                   3 if args.full else 1)
    measure.warm_up(modes, timeout)
    results = measure.run_all(
        modes, chosen, rounds=args.rounds or (7 if args.full else 3),
        jobs=args.jobs or os.cpu_count() or 1, timeout=timeout,
        progress=show_progress(len(chosen)), scale=args.scale)
    names = [mode.name for mode in modes]
    summary = figures.summarise(results, names, names[0], args.clock)
    table.print_summary(summary, sys.stdout)
    if args.plot:
        pathlib.Path(args.plot).write_text(plot.draw(summary))
    return {'summary': summary, 'results': results, 'skipped': skipped}


def measure_scaling(args):
    """Time start-up and snapshots, print, return what goes into the JSON."""
    modes = choose_modes(args)
    say = show_progress(len(list(scaling.series(args.full))))
    start_up = scaling.start_up(modes, 41 if args.full else 21)
    table.print_start_up(start_up, modes[0].name, sys.stdout)
    plain = [mode for mode in modes if mode.name in ('stock', 'off')] or modes
    report = scaling.run(plain, args.full, 3, args.timeout or 900, say)
    growth = scaling.exponents(report)
    table.print_growth(report, growth, sys.stdout)
    return {'start_up': start_up, 'snapshots': report, 'growth': growth}


def count_instructions(args):
    """Count, print, return (report for the JSON, whether it passes)."""
    if not (args.stock and args.ours):
        raise SystemExit('run.py: to count instructions, give --stock and '
                         '--ours')
    report = instructions.compare(
        args.stock, args.ours,
        lambda name: print(name, file=sys.stderr, flush=True))
    if report is None:
        raise SystemExit('run.py: nothing here counts instructions; install '
                         'valgrind')
    table.print_instructions(report, instructions.LIMIT, sys.stdout)
    return report, instructions.passes(report)


def list_workloads(chosen):
    for item in chosen:
        quick = 'quick' if item.quick else 'full '
        print(f'{quick} {item.name:22} {item.about}')


def main(argv=None):
    args = parse_arguments(argv)
    if args.list:
        list_workloads(workloads.load_all().values())
        return 0
    started = time.time()
    passed = True
    report = {'machine': machine.describe({mode.name: mode.command
                                           for mode in choose_modes(args)})}
    if args.all or not (args.scaling or args.instructions or args.check):
        report |= measure_workloads(args, choose_workloads(args))
    if args.all or args.scaling:
        report['scaling'] = measure_scaling(args)
    if args.all or args.instructions or args.check:
        report['instructions'], passed = count_instructions(args)
    print(f'\n{time.time() - started:.0f} s')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(report, file, indent=1)
    if args.check and not passed:
        print(f'run.py: untraced costs more than {instructions.LIMIT} % over '
              'stock; the functions above say where', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
