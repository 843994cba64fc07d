"""From measurements to figures: paired ratios, their median, their mean.

A ratio pairs a mode with the base within one round.  The median over the
rounds is the figure of a workload; the geometric mean over the workloads is
the figure of a mode, named with the worst workload beside it.
"""

import math
import statistics


def ratios(mine, base, field):
    """Return the paired ratios of `field` over the rounds both have.

    A result that did less work brings its own run of the base.
    """
    pairs = []
    for turn, one in enumerate(mine):
        other = one and (one.get('base')
                         or (base[turn] if turn < len(base) else None))
        if (other and 'error' not in one and 'error' not in other
                and other[field]):
            pairs.append(one[field] / other[field])
    return pairs


def figure(mine, base, field):
    """Return {'median', 'low', 'high', 'rounds'}, or None without a pair."""
    pairs = ratios(mine, base, field)
    if not pairs:
        return None
    return {'median': statistics.median(pairs), 'low': min(pairs),
            'high': max(pairs), 'rounds': len(pairs)}


def error_of(mine):
    """Return why a mode has no figure for a workload, or None."""
    return next((one['error'] for one in mine if one and 'error' in one),
                None)


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def median_of(mine, field):
    """Return the median of a field over the rounds, or None."""
    known = [one[field] for one in mine if one and 'error' not in one]
    return statistics.median(known) if known else None


def overview(figures):
    """Sum up {workload: figure or None} as mean, worst and count."""
    known = {name: one['median'] for name, one in figures.items() if one}
    if not known:
        return None
    worst = max(known, key=known.get)
    return {'mean': geometric_mean(known.values()), 'worst': known[worst],
            'worst_name': worst, 'count': len(known)}


def least_loops(mine):
    """Return how many loops a mode did where it did not do all, or None."""
    return min((one['loops'] for one in mine if one and 'loops' in one),
               default=None)


def summarise(results, modes, base, clock):
    """Turn measurements into {'time': ..., 'memory': ..., 'errors': ...}.

    `results` is what measure.run_all() fills.  Each of time and memory has
    'workloads' {workload: {mode: figure}}, 'modes' {mode: overview} and
    'base' {workload: median seconds or KiB of the base};
    'errors' has [workload, mode, why], 'loops' {workload: {mode: loops}}
    for those that did less work.
    """
    summary = {'base': base, 'clock': clock, 'errors': [], 'loops': {}}
    for title, field in (('time', clock), ('memory', 'peak_kib')):
        table = {name: {mode: figure(row[mode], row[base], field)
                        for mode in modes}
                 for name, row in results.items()}
        summary[title] = {
            'workloads': table,
            'base': {name: median_of(row[base], field)
                     for name, row in results.items()},
            'modes': {mode: overview({name: row[mode]
                                      for name, row in table.items()})
                      for mode in modes}}
    for name, row in results.items():
        fewer = {mode: loops for mode in modes
                 if (loops := least_loops(row[mode]))}
        if fewer:
            summary['loops'][name] = fewer
        for mode in modes:
            if why := error_of(row[mode]):
                summary['errors'].append([name, mode, why])
    return summary


def fit_exponent(points):
    """Fit y = c * x ** k to [(x, y)] by least squares of the logarithms.

    Return k, or None for fewer than two different x.
    """
    points = [(math.log(x), math.log(y)) for x, y in points
              if x > 0 and y > 0]
    if len({x for x, _ in points}) < 2:
        return None
    return statistics.linear_regression(*zip(*points)).slope
