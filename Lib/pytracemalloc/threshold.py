"""--fail-above: the command ends with a status of its own, for CI, if a
program has more memory than it may have, or has grown by more than it may.

The value is the sum of all rows of the report, for its --what.
"""

import sys
from collections import namedtuple

from pytracemalloc.errors import ABOVE, UsageError
from pytracemalloc.terminal import say
from pytracemalloc.units import format_count, parse_size
from tracemalloc.sizes import format_size

# One of them is None; text: as it was given.
Threshold = namedtuple('Threshold', 'text share amount')


def add_threshold(parser, metavar, text):
    parser.add_argument('--fail-above', metavar=metavar, type=_parse,
                        help=f'exit with status {ABOVE}, and say so in a '
                             f'last line, if {text}; the sum is that of '
                             f'--what, over all that passes the filters')


def _parse(text):
    try:
        if text.endswith('%'):
            share = float(text.removesuffix('%')) / 100
            if not 0 <= share < float('inf'):
                raise ValueError
            return Threshold(text, share, None)
        return Threshold(text, None, parse_size(text))
    except ValueError:
        raise UsageError(f'--fail-above {text}: give a share, such as 5%, or '
                         f'a size, such as 1MiB') from None


def check_options(args):
    """Refuse what has no sum, before anything is read."""
    threshold = args.fail_above
    if threshold is None:
        return
    if args.by == 'holder' or args.what == 'retained' or args.cumulative:
        raise UsageError('--fail-above needs a sum; leave out --by holder, '
                         '--what retained and --cumulative')
    if threshold.share is not None and not hasattr(args, 'old'):
        raise UsageError(f'--fail-above {threshold.text}: one snapshot has '
                         f'nothing to compare with; give a size, or use '
                         f'`pytracemalloc diff`')
    if args.what == 'count' and not (threshold.share is not None
                                     or threshold.text.strip().isdigit()):
        raise UsageError(f'--fail-above {threshold.text}: --what count is '
                         f'about blocks; give a number, or a share')


def judge(subject, threshold):
    """Give the verdict on standard error; return the exit status."""
    if threshold is None:
        return 0
    value = _sum(subject.new, subject)
    form = (format_count if subject.measure.order == subject.measure.count
            else format_size)
    what = f'{subject.measure.title}: {form(value)}'
    change = value
    if subject.old is not None:
        before = _sum(subject.old, subject)
        change -= before
        share = f'{change / before:+.1%}' if before else 'from nothing'
        what += f' ({form(change, sign=True)}, {share})'
    # What grows from nothing grows by more than any share.
    allowed = (threshold.amount if threshold.share is None
               else threshold.share * before)
    above = change > allowed
    # After the report, wherever that goes.
    sys.stdout.flush()
    say(f'FAIL: {what}, more than {threshold.text}' if above else
        f'OK: {what}, within {threshold.text}')
    return ABOVE if above else 0


def _sum(snapshot, subject):
    order = subject.measure.order
    return sum(getattr(stat, order)
               for stat in snapshot.statistics('filename', order=order))
