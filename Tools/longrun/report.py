"""The figures of a run: percentiles, memory, bounds, and the table."""

import json
import os

PERCENTILES = (50.0, 99.0, 99.9)
BOUNDS = (1.10, 1.20, 1.50)
GROWTH = 0.02
WARM_UP = 1 / 6                   # of the run
SPAN = 1 / 60                     # of the run: what is averaged
PARTS = 10                        # the run in tenths shows the noise


def percentile(values, percent):
    """The smallest value that so many percent are not above."""
    values = sorted(values)
    rank = -(-len(values) * percent // 100)
    return values[max(0, int(rank) - 1)]


def mean(values):
    return sum(values) / len(values)


class Figures:

    def __init__(self, options, seconds, pair, samples, late, resident,
                 shares, others):
        self.values = {
            'server': options.server, 'minutes': round(seconds / 60, 2),
            'rate': options.rate, 'frames': options.frames,
            'snapshots': options.snapshots,
            'processors': os.cpu_count(), 'others': others,
            'late': [percentile(late, percent) for percent in PERCENTILES],
            'targets': {}, 'parts': parts(pair, seconds)}
        for target, memory, share in zip(pair, resident, shares):
            self.values['targets'][target.name] = {
                'requests': len(target.latencies),
                'failures': dict(target.failures),
                'latency': [percentile(target.latencies, percent)
                            for percent in PERCENTILES],
                'longest': max(target.latencies),
                'processor': share,
                'resident': memory[-1]}
        self.values['tracer'] = tracer(samples, seconds)
        self.samples = samples

    def ratios(self):
        stock, traced = (self.values['targets'][name]['latency']
                         for name in ('stock', 'traced'))
        return [mine / base for mine, base in zip(traced, stock)]

    def missed(self):
        """A line for each bound that is not kept."""
        lines = []
        for percent, ratio, bound in zip(PERCENTILES, self.ratios(), BOUNDS):
            if ratio > bound:
                lines.append(f'the {percent:g}th percentile is {ratio:.2f} '
                             f'times that of stock, over {bound:.2f}')
        growth = self.values['tracer']['growth']
        if growth > GROWTH:
            lines.append(f'the memory of the tracer grew by {growth:.1%}, '
                         f'over {GROWTH:.0%}')
        for name, target in self.values['targets'].items():
            for why, count in target['failures'].items():
                lines.append(f'{name}: {count} requests: {why}')
        return lines

    def save(self, path):
        path.with_suffix('.json').write_text(
            json.dumps(self.values | {'samples': self.samples}))
        path.with_suffix('.txt').write_text(self.table() + '\n')

    def table(self):
        values = self.values
        stock, traced = (values['targets'][name]
                         for name in ('stock', 'traced'))
        memory = values['tracer']
        kib = 1 / 1024
        lines = [
            f'{values["server"]}, {values["minutes"]:g} minutes, '
            f'{values["rate"]:g} requests a second for each server, '
            f'{values["frames"]} frames',
            '',
            f'{"":26}{"stock":>10}{"traced":>10}{"ratio":>8}{"bound":>8}'
            f'   range over tenths']
        for number, percent in enumerate(PERCENTILES):
            tenths = [part['traced'][number] / part['stock'][number]
                      for part in values['parts']]
            lines.append(
                f'{f"{percent:g}th percentile, ms":26}'
                f'{stock["latency"][number] * 1e3:10.2f}'
                f'{traced["latency"][number] * 1e3:10.2f}'
                f'{self.ratios()[number]:8.2f}{BOUNDS[number]:8.2f}'
                f'   {min(tenths):.2f} to {max(tenths):.2f}')
        lines += [
            f'{"longest, ms":26}{stock["longest"] * 1e3:10.1f}'
            f'{traced["longest"] * 1e3:10.1f}',
            f'{"requests answered":26}{stock["requests"]:10,}'
            f'{traced["requests"]:10,}',
            f'{"share of a core":26}{stock["processor"]:10.1%}'
            f'{traced["processor"]:10.1%}'
            f'{traced["processor"] / stock["processor"]:8.2f}',
            f'{"resident memory, KiB":26}{stock["resident"] * kib:10,.0f}'
            f'{traced["resident"] * kib:10,.0f}'
            f'{traced["resident"] / stock["resident"]:8.2f}',
            '',
            f'{"memory of the tracer, KiB":26}after the warm-up '
            f'{memory["first"] * kib:,.0f}, at the end '
            f'{memory["last"] * kib:,.0f}: {memory["growth"]:+.2%}, '
            f'bound {GROWTH:+.0%}',
            f'{"snapshots":26}{memory["snapshots"]:,}, of '
            + (f'{memory["blocks"]:,} blocks' if memory['blocks'] else 'sums')
            + f' and {memory["nodes"]:,} nodes; took '
            f'{memory["pause"][0] * 1e3:.1f} ms, the longest of 100 '
            f'{memory["pause"][1] * 1e3:.1f}',
            f'{"noise":26}other programs took {values["others"]:.0%} of '
            f'{values["processors"]} cores; in 1 of 1,000 requests',
            f'{"":26}the load was {values["late"][2] * 1e3:.1f} ms late']
        return '\n'.join(lines)


def parts(pair, seconds):
    """The percentiles of each, for each tenth of the run."""
    found = []
    for number in range(PARTS):
        low, high = (seconds * step / PARTS for step in (number, number + 1))
        part = {target.name: [latency for start, latency
                              in zip(target.times, target.latencies)
                              if low <= start < high] for target in pair}
        if all(part.values()):
            found.append({name: [percentile(values, percent)
                                 for percent in PERCENTILES]
                          for name, values in part.items()})
    return found


def tracer(samples, seconds):
    """What the samples of the traced service come to."""
    span = max(1, round(seconds * SPAN))
    warm = min(round(seconds * WARM_UP), len(samples) - span)
    memory = [sample['tracer']['memory'] for sample in samples]
    first, last = mean(memory[warm:][:span]), mean(memory[-span:])
    pauses = [sample['pause'] for sample in samples[warm:]]
    return {'first': first, 'last': last, 'growth': last / first - 1,
            'snapshots': len(samples), 'blocks': samples[-1]['blocks'],
            'nodes': samples[-1]['tracer']['nodes'],
            'pause': [percentile(pauses, percent) for percent in (50, 99)]}
