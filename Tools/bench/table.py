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
