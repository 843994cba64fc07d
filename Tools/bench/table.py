"""The figures as text: one row per workload, one column per mode."""

import instructions

# What print_part() shows of the base: see quantity().
UNITS = {'time': 'seconds', 'memory': 'peak_kib'}


def cell(one):
    if one is None:
        return '-'
    value = one['median'] if isinstance(one, dict) else one
    if value is None:
        return '-'
    return f'{value:.3g}' if value >= 100 else f'{value:.2f}'


def grid(header, rows, file):
    """Print rows of strings in columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in [header, ['-' * width for width in widths], *rows]:
        first, *rest = (text.ljust(width) if i == 0 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(row, widths)))
        print('  '.join([first, *rest]).rstrip(), file=file)


def print_part(summary, title, heading, file):
    """Print one table: what the base took, and the ratios of the others."""
    part = summary[title]
    modes = [mode for mode in part['modes'] if mode != summary['base']]
    print(f"\n{heading}, ratio to {summary['base']}", file=file)
    rows = [[name, quantity(UNITS[title], part['base'][name]),
             *(cell(row[mode]) for mode in modes)]
            for name, row in part['workloads'].items()]
    sums = [part['modes'][mode] for mode in modes]
    rows.append(['geometric mean', '', *(cell(one and one['mean'])
                                         for one in sums)])
    rows.append(['worst', '', *(cell(one and one['worst']) for one in sums)])
    grid(['workload', summary['base'], *modes], rows, file)
    for mode, one in zip(modes, sums):
        if one:
            print(f"  worst of {mode}, {one['count']} workloads: "
                  + ', '.join(f'{name} ({cell(row)})' for name, row
                              in worst(part, mode)), file=file)


def worst(part, mode, most=5):
    """Return [(workload, figure)] of a mode, the worst first."""
    known = [(name, row[mode]) for name, row in part['workloads'].items()
             if row[mode]]
    return sorted(known, key=lambda one: -one[1]['median'])[:most]


def print_summary(summary, file):
    """Print both tables, and what was measured less, or not at all."""
    clock = {'cpu': 'Processor time', 'wall': 'Time'}[summary['clock']]
    print_part(summary, 'time', clock, file)
    print_part(summary, 'memory', 'Peak resident memory', file)
    if summary['loops']:
        shares = sorted({mode for row in summary['loops'].values()
                         for mode in row})
        print(f"\nWith less work, beside {summary['base']} doing the same: "
              + ', '.join(shares), file=file)
        usual = usual_loops(summary['loops'])
        for name, row in summary['loops'].items():
            for mode, loops in row.items():
                if loops < usual[name]:
                    print(f'  still less for time: {name} in {mode}, '
                          f'{loops} of {usual[name]} loops',
                          file=file)
    if summary['errors']:
        print('\nWithout a figure:', file=file)
        for name, mode, why in summary['errors']:
            print(f'  {name} in {mode}: {why}', file=file)


def usual_loops(loops):
    """Return {workload: the most loops of any slow mode}."""
    return {name: max(row.values()) for name, row in loops.items()}


def print_start_up(report, base, file):
    """Print what scaling.start_up() found."""
    print('\nStart-up (python -c pass), milliseconds', file=file)
    rows = []
    for mode, one in report.items():
        if 'error' in one:
            rows.append([mode, '-', '-', one['error'][:40]])
        else:
            rows.append([mode, f"{one['wall'] * 1e3:.1f}",
                         f"{one['cpu'] * 1e3:.1f}",
                         cell(one['cpu'] / report[base]['cpu'])])
    grid(['mode', 'wall', 'cpu', 'ratio'], rows, file)


def quantity(step, value):
    """A step's value with a fitting unit."""
    if value is None:
        return '-'
    if step.endswith('_kib'):
        return f'{value / 1024:.1f} MiB'
    if value < 1e-4:
        return f'{value * 1e6:.2f} us'
    return f'{value:.2f} s' if value >= 1 else f'{value * 1e3:.2f} ms'


def print_growth(report, growth, file):
    """Print what scaling.run() and scaling.exponents() found."""
    for name, sizes in report.items():
        for mode in next(iter(sizes.values())):
            print(f'\nSnapshots by {name}, {mode}', file=file)
            known = {size: row[mode] for size, row in sizes.items()}
            for size, one in known.items():
                if 'error' in one:
                    print(f"  {size}: {one['error']}", file=file)
            steps = next((list(one) for one in known.values()
                          if 'error' not in one), [])
            rows = []
            for step in steps:
                exponent = growth[name][mode].get(step)
                cells = [quantity(step, one.get(step))
                         for one in known.values()]
                rows.append([step.removesuffix('_kib'), *cells,
                             '-' if exponent is None else f'{exponent:.2f}'])
            if rows:
                grid(['step', *map(str, known), 'exponent'], rows, file)


def print_threads(rows, pairs, file):
    """Print what contention.run() found: the time of stock, and ours relative
    to it."""
    for stock, ours in pairs:
        title = f'Threads that allocate: {stock} and {ours}'
        print(f'\n{title}, wall clock', file=file)
        shapes = {}
        for workload, depth, threads, found in rows:
            if stock in found and ours in found:
                shapes.setdefault((workload, depth), {})[threads] = found
        counts = sorted({threads for one in shapes.values()
                         for threads in one})
        grid(['workload', 'depth',
              *(text for n in counts for text in (f'{stock}, {n}', 'ratio'))],
             [[workload, str(depth),
               *(text for n in counts
                 for text in _thread_cells(one.get(n), stock, ours))]
              for (workload, depth), one in shapes.items()], file)


def _thread_cells(found, stock, ours):
    walls = [(found or {}).get(mode, {}).get('wall') for mode in (stock, ours)]
    return [quantity('wall', walls[0]),
            cell(walls[1] / walls[0] if all(walls) else None)]


def print_holders(part, file):
    """Print what holders.run() found, a row for each step of each tool."""
    print('\nWho holds it: heaps of objects that hold each other, wall clock',
          file=file)
    steps = {}
    for objects, found in part['rows']:
        for tool, one in found.items():
            for step, value in (one | _ratios(one)).items():
                steps.setdefault((tool, step), {})[objects] = value
    counts = [objects for objects, _ in part['rows']]
    grid(['tool', 'step', *(f'{n:,}' for n in counts)],
         [[tool, step.replace('_bytes', '').replace('_', ' '),
           *(_holders_cell(step, row.get(n)) for n in counts)]
          for (tool, step), row in steps.items()], file)
    for tool, why in part['skipped'].items():
        print(f'{tool}: skipped, {why}', file=file)


def _ratios(steps):
    """Return the pauses relative to what they are judged by."""
    return {name: f'{steps[step] / steps[base]:.2f}'
            for name, step, base in (
                ('pause / collect', 'pause', 'collect'),
                ('child / fork', 'pause_of_child', 'bare_fork'))
            if steps.get(step) and steps.get(base)}


def _holders_cell(step, value):
    if isinstance(value, str):
        return value
    if step.endswith('_bytes_an_object') and value is not None:
        return f'{value:.0f} B'
    if step.endswith('_bytes') and value is not None:
        return quantity('_kib', value / 1024)
    return quantity(step, value)


def percent(ours, stock):
    return f'{(ours / stock - 1) * 100:+.2f} %' if ours and stock else '-'


def print_instructions(part, file):
    """Print what instructions.compare() found."""
    _print_counts(part, 'untraced', 'stock', part['rows'], file)
    for frames, rows in part['traced'].items():
        _print_counts(part, f'traced at {frames}', 'before', rows, file)


def _print_counts(part, how, base, rows, file):
    print(f"\nInstructions per loop, {how} ({part['tool']})", file=file)
    lines = [[row['name'], f"{row['base']:.1f}", f"{row['ours']:.1f}",
              percent(row['ours'], row['base'])] for row in rows]
    mean = instructions.mean(rows)
    lines.append(['geometric mean', '', '', percent(mean, 1)])
    grid(['snippet', base, 'ours', 'more'], lines, file)
    for row in rows:
        if row['ours'] > row['base'] * (1 + part['limit'] / 100):
            print(f"\n{row['name']}, by function", file=file)
            for name, old, new in row['functions']:
                print(f'  {new - old:+8.1f}  {name}', file=file)


def print_native(part, file):
    """Print what native.run() found, and what it had to skip."""
    print('\nLibraries that allocate in C', file=file)
    print_summary(part['summary'], file)
    for name, why in part['skipped'].items():
        print(f'{name}: skipped, {why}', file=file)


def print_pyperformance(part, file):
    """Print what pyperf_suite.run_all() found, and what it had to skip."""
    print('\npyperformance, by pyperf', file=file)
    if part['results']:
        print_summary(part['summary'], file)
    for name, why in part['skipped'].items():
        print(f'{name}: skipped, {why}', file=file)
