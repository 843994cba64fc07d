"""Which interpreters, with which options, and which workloads are run."""

import shlex

import workloads
from measure import Mode

# Modes of each interpreter: a name and its options.
STOCK = (('stock', ()), ('stock-1', ('-X', 'tracemalloc=1')),
         ('stock-25', ('-X', 'tracemalloc=25')))
OURS = (('off', ()), ('1', ('-X', 'tracemalloc=1')),
        ('25', ('-X', 'tracemalloc=25')),
        ('full', ('-X', 'tracemalloc=full')))

# Of the loops, for modes that are up to a hundred times slower than others.
SLOW_SHARE = 0.2


def slow_rounds(args):
    return args.slow_rounds or (2 if args.full else 1)


def choose(args):
    """Return the modes to run, the base first."""
    chosen = []
    for python, known in ((args.stock, STOCK), (args.ours, OURS)):
        for name, options in known if python else ():
            slow = name.startswith('stock-')
            chosen.append(Mode(name, (python, *options),
                               slow_rounds(args) if slow else None,
                               share=SLOW_SHARE if slow else 1.0))
    for text in args.mode:
        name, equals, command = text.partition('=')
        if not (name and equals and command):
            raise SystemExit(f'run.py: --mode {text}: write NAME=COMMAND')
        chosen.append(Mode(name, tuple(shlex.split(command))))
    if args.only:
        chosen = pick(chosen, args.only, 'mode')
    if not chosen:
        raise SystemExit('run.py: nothing to run: give --stock and --ours, '
                         'or --mode')
    return chosen


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
