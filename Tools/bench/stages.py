"""The parts of a run: each measures, prints its table, adds to the report.

The report is written after every measurement, and each part prints what it
has when it ends, by Ctrl-C as well.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time

import contention
import holders
import instructions
import machine
import measure
import modes
import native
import peers
import plot
import pyperf_suite
import scaling
import summary as figures
import table

SCHEMA = 1
WARM_UP_S = 300
BUDGET_S = {'quick': 360, 'full': 1000}
TIMEOUT_S = {'quick': 20, 'full': 60}
SNAPSHOT_S = 900    # one snapshot of ten million blocks, by stock
NATIVE_ROUNDS = 5
NATIVE_S = 400


class Report:
    """What goes into the JSON, and the modes that it is about."""

    def __init__(self, args, chosen):
        self.modes = chosen
        self.path = args.json and pathlib.Path(args.json)
        if self.path and not self.path.parent.is_dir():
            raise SystemExit(f'run.py: {self.path}: no such directory')
        self.data = {
            'schema': SCHEMA, 'suite': 'full' if args.full else 'quick',
            'date': time.strftime('%Y-%m-%d'),
            'machine': machine.describe({mode.name: mode.command
                                         for mode in chosen})}

    def save(self):
        """Write the JSON; the old one stays until the new one is whole."""
        if self.path:
            beside = self.path.with_name(self.path.name + '.new')
            beside.write_text(json.dumps(self.data, indent=1))
            beside.replace(self.path)


class Progress:
    """A line per step on standard error, and the report written."""

    def __init__(self, report, total):
        self.report = report
        self.total = total
        self.done = 0
        self.started = time.monotonic()

    def __call__(self, text):
        self.done += 1
        seconds = time.monotonic() - self.started
        print(f'[{self.done}/{self.total}] {seconds:4.0f} s  {text}',
              file=sys.stderr, flush=True)
        self.report.save()


def default(args, given, values):
    return given or values['full' if args.full else 'quick']


def how_many(args):
    """Return (rounds, workloads at a time)."""
    return (args.rounds or (7 if args.full else 3),
            args.jobs or os.cpu_count() or 1)


def with_peers(args, report, first):
    """Return the modes and the peers that work here; name the others."""
    if not args.stock:
        raise SystemExit('run.py: --peers compares with --stock; give it')
    print('installing the peers', file=sys.stderr, flush=True)
    found, skipped = peers.modes(
        args.stock, [measure.CHILD, first.module, first.name, 1], WARM_UP_S,
        args.slow_rounds or 1, modes.SLOW_SHARE)
    for name, why in skipped.items():
        print(f'{name}: skipped, {why}')
    report.data['skipped_peers'] = skipped
    return report.modes + found


def measure_workloads(args, report):
    """Run the workloads: 'workloads' and 'results' of the report."""
    chosen = modes.choose_workloads(args)
    wanted = report.modes
    if args.peers or args.all:
        wanted = with_peers(args, report, chosen[0])
    measure.warm_up(wanted, WARM_UP_S)
    rounds, jobs = how_many(args)
    results = report.data['results'] = {}
    say = Progress(report, rounds * len(chosen))
    try:
        measure.run_all(
            wanted, chosen, results, rounds=rounds, jobs=jobs,
            timeout=default(args, args.timeout, TIMEOUT_S), scale=args.scale,
            progress=lambda turn, name: say(f'round {turn + 1}: {name}'),
            until=say.started + default(args, args.budget, BUDGET_S))
    finally:
        found = figures.summarise(results, [mode.name for mode in wanted],
                                  wanted[0].name, args.clock)
        report.data['workloads'] = found
        table.print_summary(found, sys.stdout)
        if args.plot:
            pathlib.Path(args.plot).write_text(plot.draw(found))


def plain(mode):
    """True if the mode is an interpreter that traces or does not."""
    options = [option for option in mode.command[1:] if option != '-X']
    return all(option.startswith('tracemalloc') for option in options)


def measure_pyperformance(args, report):
    """Run pyperformance: 'pyperformance' of the report."""
    if not args.stock:
        raise SystemExit('run.py: --pyperformance is installed by --stock; '
                         'give it')
    part = report.data['pyperformance'] = {'skipped': {}, 'results': {}}
    wanted = [mode for mode in report.modes if plain(mode)]
    print('installing pyperformance', file=sys.stderr, flush=True)
    names = args.pyperformance
    try:
        ready, part['skipped'] = pyperf_suite.prepare(
            args.stock, names.split(',') if names else
            list(pyperf_suite.CHOSEN))
    except pyperf_suite.Missing as exc:
        part['skipped']['pyperformance'] = str(exc)
        ready = {}
    rounds = args.rounds or (2 if args.full else 1)
    say = Progress(report, rounds * len(ready))
    try:
        pyperf_suite.run_all(
            wanted, ready, part['results'], rounds=rounds,
            jobs=how_many(args)[1], timeout=args.timeout or TIMEOUT_S['full'],
            progress=lambda turn, name: say(f'round {turn + 1}: {name}'))
    finally:
        part['summary'] = figures.summarise(
            part['results'], [mode.name for mode in wanted], wanted[0].name,
            'wall')
        table.print_pyperformance(part, sys.stdout)


def tracers(chosen):
    """Return the modes to take snapshots in: each interpreter once.

    The script starts the tracer itself.
    """
    named = {'stock': 'stock', 'off': 'ours'}
    found = [dataclasses.replace(mode, name=named[mode.name])
             for mode in chosen if mode.name in named]
    return found or chosen


def measure_scaling(args, report):
    """Time start-up and snapshots: 'scaling' of the report."""
    part = report.data['scaling'] = {'start_up': {}, 'snapshots': {},
                                     'growth': {}}
    say = Progress(report, len(list(scaling.series(args.full))))
    part['start_up'] = scaling.start_up(report.modes, args.rounds
                                        or (41 if args.full else 21))
    table.print_start_up(part['start_up'], report.modes[0].name, sys.stdout)
    try:
        scaling.run(tracers(report.modes), args.full, args.rounds or 3,
                    args.timeout or SNAPSHOT_S, part['snapshots'], say)
    finally:
        part['growth'] = scaling.exponents(part['snapshots'])
        table.print_growth(part['snapshots'], part['growth'], sys.stdout)


def measure_threads(args, report):
    """Time threads that allocate: 'threads' of the report."""
    known = [mode for pair in contention.PAIRS for mode in pair]
    wanted = [dataclasses.replace(mode, rounds=None) for mode in report.modes
              if mode.name in known]
    say = Progress(report, len(list(contention.shapes())))
    rows = report.data['threads'] = []
    try:
        contention.run(wanted, args.rounds or (5 if args.full else 3),
                       default(args, args.timeout, TIMEOUT_S), rows, say)
    finally:
        table.print_threads(rows, contention.PAIRS, sys.stdout)


def measure_holders(args, report):
    """Ask who holds objects: 'holders' of the report."""
    if not (args.stock and args.ours):
        raise SystemExit('run.py: to ask who holds objects, give --stock and '
                         '--ours')
    part = report.data['holders'] = {'skipped': {}, 'rows': []}
    chosen = holders.prepare(args, part['skipped'])
    say = Progress(report, len(chosen)
                   * len(holders.FULL if args.full else holders.OBJECTS))
    try:
        holders.run(chosen, args.full, args.timeout or SNAPSHOT_S,
                    part['rows'], say)
    finally:
        table.print_holders(part, sys.stdout)


def measure_native(args, report):
    """Trace native memory: 'native' of the report."""
    if not (args.stock and args.ours):
        raise SystemExit('run.py: to trace native memory, give --stock and '
                         '--ours')
    part = report.data['native'] = {'skipped': {}, 'results': {}}
    print('installing memray and the libraries', file=sys.stderr, flush=True)
    chosen, place = native.prepare(args, part['skipped'])
    measure.warm_up(chosen, WARM_UP_S)
    rounds = args.rounds or NATIVE_ROUNDS
    say = Progress(report, rounds * len(native.native_child.WORKLOADS))
    try:
        native.run(chosen, place, rounds, default(args, args.timeout,
                                                  TIMEOUT_S),
                   part['results'], say,
                   say.started + (args.budget or NATIVE_S))
    finally:
        part['summary'] = figures.summarise(
            part['results'], [mode.name for mode in chosen], chosen[0].name,
            args.clock)
        table.print_native(part, sys.stdout)


def count_instructions(args, report):
    """Count: 'instructions' of the report; return what costs too much."""
    if not (args.stock and args.ours):
        raise SystemExit('run.py: to count instructions, give --stock and '
                         '--ours')
    tool = instructions.counter()
    if tool is None:
        raise SystemExit('run.py: nothing here counts instructions; install '
                         'valgrind')
    part = report.data['instructions'] = {
        'tool': tool[0], 'limit': instructions.LIMIT, 'rows': [], 'traced': {}}
    counts = [((args.stock,), (args.ours,), part['rows'])]
    for frames in instructions.FRAMES if args.before else ():
        rows = part['traced'][frames] = []
        counts.append(((args.before, *instructions.tracing(frames)),
                       (args.ours, *instructions.tracing(frames)), rows))
    say = Progress(report, len(counts) * (len(instructions.SNIPPETS) + 1))
    try:
        for base, ours, rows in counts:
            instructions.compare(tool, base, ours, rows, how_many(args)[1],
                                 say)
    finally:
        table.print_instructions(part, sys.stdout)
    return (instructions.costly(part['rows'])
            + [f'{name} (traced at {frames})'
               for frames, rows in part['traced'].items()
               for name in instructions.costly(rows)])
