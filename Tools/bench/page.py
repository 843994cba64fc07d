"""The figures of Doc/performance.rst, from the JSON of an earlier run.

The page includes these files; what it says about them is written by hand.
"""

import io
import json

import contention
import plot
import table


def most_rounds(data):
    """Return how many rounds the workloads had, or 0."""
    table = data.get('workloads', {}).get('time', {}).get('workloads', {})
    return max((one['rounds'] for row in table.values()
                for one in row.values() if one), default=0)


def machine_text(data):
    """Return what the figures were taken on, as lines."""
    machine = data['machine']
    lines = [f"processor    {machine['processor']}, {machine['cores']} cores",
             f"memory       {machine['memory_gib']} GiB",
             f"system       {machine['system']}",
             f"suite        {data['suite']}, {data['date']}",
             f"load         {machine['load']} processes when it began"]
    if rounds := most_rounds(data):
        lines.append(f'rounds       {rounds}')
    for name in ('stock', 'off'):
        if version := machine['interpreters'].get(name):
            lines.append(f'{name:12} {version}')
    return '\n'.join(lines) + '\n'


def printed(function, *args):
    """Return what a function of table prints."""
    out = io.StringIO()
    function(*args, out)
    return out.getvalue().lstrip('\n')


def scaling_text(part, base):
    text = printed(table.print_start_up, part['start_up'], base)
    return text + '\n' + printed(table.print_growth, part['snapshots'],
                                 part['growth'])


def texts(data):
    """Return {file name: content} for the parts that the run has."""
    found = {}
    if summary := data.get('workloads'):
        found['workloads.txt'] = printed(table.print_summary, summary)
        found['plot.svg'] = plot.draw(summary)
    if skipped := data.get('skipped_peers'):
        found['workloads.txt'] += ''.join(
            f'{name}: skipped, {why}\n' for name, why in skipped.items())
    if part := data.get('pyperformance'):
        found['pyperformance.txt'] = printed(table.print_pyperformance, part)
    if part := data.get('scaling'):
        found['scaling.txt'] = scaling_text(part, next(iter(
            part['start_up'])))
    if part := data.get('threads'):
        found['threads.txt'] = printed(table.print_threads, part,
                                       contention.PAIRS)
    if part := data.get('holders'):
        found['holders.txt'] = printed(table.print_holders, part)
    if part := data.get('native'):
        found['native.txt'] = printed(table.print_native, part)
    if part := data.get('instructions'):
        found['instructions.txt'] = printed(table.print_instructions, part)
    alone = list(found) == ['native.txt']
    found['native-machine.txt' if alone else 'machine.txt'] = \
        machine_text(data)
    return found


def write(path, folder):
    """Write the files of a series; parts that the run did not have stay."""
    try:
        data = json.loads(path.read_text())
        found = texts(data)
    except OSError as exc:
        raise SystemExit(f'run.py: {path}: {exc.strerror}') from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(f'run.py: {path}: not written by --json of this '
                         'version; run the benchmark again') from None
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_text(content)
        print(folder / name)
