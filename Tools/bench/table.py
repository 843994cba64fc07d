"""The figures as text: one row per workload, one column per mode."""


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
    part = summary[title]
    modes = [mode for mode in part['modes'] if mode != summary['base']]
    if not modes:
        return
    print(f"\n{heading}, ratio to {summary['base']}", file=file)
    rows = [[name, *(cell(row[mode]) for mode in modes)]
            for name, row in part['workloads'].items()]
    sums = [part['modes'][mode] for mode in modes]
    rows.append(['geometric mean', *(cell(one and one['mean'])
                                     for one in sums)])
    rows.append(['worst', *(cell(one and one['worst']) for one in sums)])
    grid(['workload', *modes], rows, file)
    for mode, one in zip(modes, sums):
        if one:
            print(f"  worst of {mode}: {one['worst_name']} "
                  f"({cell(one['worst'])}), {one['count']} workloads",
                  file=file)


def print_summary(summary, file):
    clock = {'cpu': 'Processor time', 'wall': 'Time'}[summary['clock']]
    print_part(summary, 'time', clock, file)
    print_part(summary, 'memory', 'Peak resident memory', file)
    if summary['errors']:
        print('\nWithout a figure:', file=file)
        for name, mode, why in summary['errors']:
            print(f'  {name} in {mode}: {why}', file=file)


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
                rows.append([step, *(quantity(step, one.get(step))
                                     for one in known.values()),
                             '-' if exponent is None else f'{exponent:.2f}'])
            if rows:
                grid(['step', *map(str, known), 'exponent'], rows, file)


def percent(ours, stock):
    return f'{(ours / stock - 1) * 100:+.2f} %' if ours and stock else '-'


def print_instructions(report, limit, file):
    """Print what instructions.compare() found."""
    print(f"\nInstructions per loop, untraced ({report['tool']})", file=file)
    rows = [[row['name'], f"{row['stock']:.1f}", f"{row['ours']:.1f}",
             percent(row['ours'], row['stock'])] for row in report['rows']]
    rows.append(['start-up', *(f'{n}' for n in report['start_up']),
                 percent(*reversed(report['start_up']))])
    rows.append(['geometric mean', '', '',
                 percent(report['mean'], 1) if report['mean'] else '-'])
    grid(['snippet', 'stock', 'ours', 'more'], rows, file)
    for row in report['rows']:
        if row['ours'] > row['stock'] * (1 + limit / 100):
            print(f"\n{row['name']}, by function", file=file)
            for name, stock, ours in row['functions']:
                print(f'  {ours - stock:+8.1f}  {name}', file=file)
