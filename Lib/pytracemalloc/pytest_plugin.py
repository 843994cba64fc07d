"""The pytest plugin: limits on the memory of a test, and a summary.

pytest finds it by the entry point of this interpreter's own distribution.
What is measured is the test itself, not the set-up of its fixtures.  The
thread is hidden while a test is run, but for the test's own function, so what
pytest and its plugins allocate does not count.
"""

from collections import defaultdict, namedtuple
import inspect
import unittest

from _tracemalloc import _hidden, _hide_thread, _shown
import pytest

from pytracemalloc.arguments import MINE_HELP, MY_CODE_HELP, positive
from pytracemalloc.span import Span
from pytracemalloc.units import format_count, parse_frames, parse_size
from tracemalloc.places import name_origin, name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

_SITES = 5                        # shown with a failure

# What a marker says: the name of the marker, what it limits, and how to show
# that; filter_fn and warmups are arguments of limit_leaks.
Limit = namedtuple('Limit', 'name limited value show filter_fn warmups')
# What filter_fn is called with, as pytest-memray calls it: frames has the most
# recent call first.
Stack = namedtuple('Stack', 'frames')
StackFrame = namedtuple('StackFrame', 'function filename lineno')


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _parse_size(size):
    if _is_number(size):
        return size
    if isinstance(size, str):
        return parse_size(size)
    raise ValueError(f"{size!r} is not a size; write it as '24 MB', or as a "
                     f"number of bytes")


def _parse_count(number):
    if _is_number(number):
        return number
    raise ValueError(f'{number!r} is not a number of blocks; write it as '
                     f'100_000')


# Marker -> (parser of its argument, name of what is limited, formatter, help).
_LIMITS = {
    'limit_memory': (_parse_size, 'peak', format_size,
                     'the test must not use more memory than this'),
    'limit_leaks': (_parse_size, 'leak', format_size,
                    'no line may leave more than this behind'),
    'limit_allocations': (_parse_count, 'allocations', format_count,
                          'the test must not allocate more blocks'),
}
# Arguments of pytest-memray's markers, and warmups.
_KEYWORDS = {'limit_memory': ('current_thread_only',),
             'limit_leaks': ('filter_fn', 'warmups', 'current_thread_only'),
             'limit_allocations': ()}
_FRAMES = pytest.StashKey()       # what tracemalloc.start() gets


def pytest_addoption(parser):
    group = parser.getgroup('tracemalloc', 'memory of tests')
    group.addoption('--memory-report', action='store_true',
                    help='trace every test and show the largest at the end')
    group.addoption('--memory-top', metavar='N', type=positive,
                    default=10, help='number of tests shown (default: 10)')
    group.addoption('--memory-my-code', action='store_true',
                    help=f'in failures, {MY_CODE_HELP}')
    group.addoption('--memory-mine', metavar='PATTERN', default=[],
                    action='append', help=MINE_HELP)
    group.addoption('--memory-frames', metavar='N|full',
                    help='frames to keep of each traceback (default: that of '
                         'the ini file)')
    parser.addini('memory_frames', 'frames to keep of each traceback of a '
                  'test that is measured (default: full, all of them)',
                  default='full')


def pytest_configure(config):
    for name, (_, _, _, text) in _LIMITS.items():
        arguments = ', '.join(('limit', *_KEYWORDS[name]))
        config.addinivalue_line('markers', f'{name}({arguments}): {text}')
    name = '--memory-frames'
    frames = config.getoption(name)
    if frames is None:
        name = 'memory_frames'
        frames = config.getini(name)
    try:
        config.stash[_FRAMES] = parse_frames(frames)
    except ValueError as exc:
        raise pytest.UsageError(f'{name} {exc}') from None


def _markers_of(item):
    """Return the markers of a test: its own replace those of its class."""
    return [marker for name in _LIMITS
            if (marker := item.get_closest_marker(name))]


def _limit_of(marker):
    """Return a Limit; ValueError, if the marker says what cannot be done."""
    if len(marker.args) != 1:
        raise ValueError('give one argument')
    parse, limited, show, _ = _LIMITS[marker.name]
    value = parse(marker.args[0])
    if value < 0:
        raise ValueError(f'{value} is negative')
    keywords = marker.kwargs
    for name in keywords:
        if name not in _KEYWORDS[marker.name]:
            raise ValueError(f'{name} is not an argument of this marker; '
                             f'leave it out')
    if keywords.get('current_thread_only'):
        raise ValueError('current_thread_only=True is not supported: the '
                         'memory of all threads counts; leave it out')
    filter_fn = keywords.get('filter_fn')
    if filter_fn is not None and not callable(filter_fn):
        raise ValueError(f'filter_fn={filter_fn!r} is not a function; give '
                         f'one that takes a stack')
    warmups = keywords.get('warmups', 0)
    if not _is_number(warmups) or warmups < 0:
        raise ValueError(f'warmups={warmups!r} is not a number of runs; write '
                         f'it as warmups=1')
    return Limit(marker.name, limited, value, show, filter_fn, warmups)


def pytest_runtest_setup(item):
    # What is wrong with one marker is the failure of one test.
    for marker in _markers_of(item):
        try:
            _limit_of(marker)
        except ValueError as exc:
            pytest.fail(f'{marker.name}: {exc}', pytrace=False)


class Measurement:
    """What one run of a test does, warm-ups before it apart.

    leak: most bytes that one line left behind; peak and count are those of a
    Span.  sites[name]: [(value, blocks, where)], largest first.
    """

    complete = False              # False too if the test stopped the tracing

    def __init__(self, item, limits):
        self._frames = item.config.stash[_FRAMES]
        self._mine = item.config.getoption('--memory-mine')
        self._my_code = bool(self._mine) or item.config.getoption(
            '--memory-my-code')
        self._warmups = max((limit.warmups for limit in limits), default=0)
        self._has_filter = any(limit.filter_fn for limit in limits)
        self._test = item.runtest if _is_function(item) else _shown(
            item.runtest)

    @_hidden
    def run(self):
        for _ in range(self._warmups):
            self._test()
        span = Span(self._frames)
        span.start()
        try:
            self._test()
        finally:
            if span.stop():
                self._read(span)
                self.complete = True

    def _read(self, span):
        self.peak = span.peak
        self.allocations = span.count
        snapshots = span.before, span.after, span.collected
        before, after, collected = map(_by_line, snapshots)
        leaks = _grown(before, 'size', 'count', collected, 'size', 'count')
        self.leak = leaks[0][0] if leaks else 0
        if self._my_code:
            before, after, collected = [
                _by_line(snapshot.my_code(self._mine))
                for snapshot in snapshots]
        self.sites = {
            'peak': _grown(before, 'size', 'count', after, 'peak_size',
                           'peak_count') if span.is_highest else [],
            'leak': _grown(before, 'size', 'count',
                           collected, 'size', 'count'),
            'allocations': _grown(before, 'total_count', 'total_size',
                                  after, 'total_count', 'total_size')}
        if self._has_filter:
            self._stacks = [*_growth(
                _by_stack(span.before), 'size', 'count',
                _by_stack(span.collected), 'size', 'count')]

    def leaks_that_pass(self, limit):
        """Return sites['leak'] of the stacks that limit.filter_fn lets pass.

        It is asked for stacks whose line is beyond the limit.
        """
        by_line = defaultdict(list)
        for value, count, stat in self._stacks:
            frame = stat.traceback[-1]
            by_line[frame.filename, frame.lineno].append((value, count, stat))
        sites = []
        for stacks in by_line.values():
            if sum(value for value, _, _ in stacks) <= limit.value:
                continue
            passed = [(value, count) for value, count, stat in stacks
                      if limit.filter_fn(_stack_of(stat))]
            if passed:
                sites.append((*map(sum, zip(*passed)), _place(stacks[0][2])))
        return sorted(sites, reverse=True)


def _is_function(item):
    """True if pytest_pyfunc_call() will call the test."""
    return isinstance(item, pytest.Function) and not (
        item.cls and issubclass(item.cls, unittest.TestCase))


def _stack_of(stat):
    return Stack(tuple(StackFrame(frame.function, frame.filename, frame.lineno)
                       for frame in reversed(stat.traceback)))


def _by_line(snapshot):
    # By the order of what was ever allocated, or the lines of which nothing is
    # left would be missing.
    return {(frame.filename, frame.lineno): stat
            for stat in snapshot.statistics('lineno', order='total_count')
            for frame in stat.traceback}


def _by_stack(snapshot):
    return {stat.traceback: stat for stat in
            snapshot.statistics('traceback', order='total_count')}


def _grown(before, old, old_second, after, new, new_second):
    """Return [(growth of value, growth of second value, where)]."""
    return sorted(((value, second, _place(stat)) for value, second, stat in
                   _growth(before, old, old_second, after, new, new_second)),
                  reverse=True)


def _growth(before, old, old_second, after, new, new_second):
    """Yield (growth of value, growth of second value, stat)."""
    for group, stat in after.items():
        was = before.get(group)
        value = getattr(stat, new) - (getattr(was, old) if was else 0)
        if value > 0:
            yield value, (getattr(stat, new_second)
                          - (getattr(was, old_second) if was else 0)), stat


def _place(stat):
    frame = stat.traceback[-1]
    where = name_place(frame.filename, frame.lineno, frame.function)
    return printable(where + name_origin(stat))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    limits = [_limit_of(marker) for marker in _markers_of(item)]
    if not limits and not item.config.getoption('--memory-report'):
        yield
        return
    # Not the whole hook: pytest's own work in it is not the test's.
    measurement = Measurement(item, limits)
    item.runtest = measurement.run
    outcome = yield
    del item.runtest
    if not measurement.complete:
        return
    item.tracemalloc = (measurement.peak, measurement.leak,
                        measurement.allocations)
    if outcome.excinfo is None:
        try:
            problems = [problem for limit in limits
                        if (problem := _problem(limit, measurement))]
        except Exception as exc:  # of a filter_fn
            outcome.force_exception(exc)
            return
        if problems:
            outcome.force_exception(
                pytest.fail.Exception('\n'.join(problems), pytrace=False))


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem):
    if 'runtest' not in vars(pyfuncitem):
        yield                     # it is not measured
        return
    function = pyfuncitem.obj
    if inspect.iscoroutinefunction(function):
        # Whoever runs it has to see what it is.
        hidden = _hide_thread(False)
        yield
        _hide_thread(hidden)
        return
    pyfuncitem.obj = _shown(function)
    yield
    pyfuncitem.obj = function


def _problem(limit, measurement):
    """Return the text of a failure, None if the limit was kept."""
    value = getattr(measurement, limit.limited)
    if value <= limit.value:
        return None
    sites = measurement.sites[limit.limited]
    if limit.filter_fn is not None:
        sites = measurement.leaks_that_pass(limit)
        value = sites[0][0] if sites else 0
        if value <= limit.value:
            return None
    title = {'peak': 'the test used {}, limit {}',
             'leak': 'a line left {} behind, limit {}',
             'allocations': 'the test allocated {} blocks, limit {}'}
    title = title[limit.limited].format(limit.show(value),
                                        limit.show(limit.value))
    lines = [f'{limit.name}: {title}']
    if not sites:
        lines.append('where is not known: traced memory was higher before')
    for value, second, where in sites[:_SITES]:
        figures = ((value, second) if limit.limited != 'allocations'
                   else (second, value))
        lines.append(f'{format_size(figures[0]):>10} '
                     f'{format_count(figures[1]):>10}  {where}')
    return '\n'.join(lines)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == 'call' and hasattr(item, 'tracemalloc'):
        # On the report, so that it comes back from a worker process.
        outcome.get_result().tracemalloc = list(item.tracemalloc)


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption('--memory-report'):
        return
    rows = [(report.tracemalloc, report.nodeid)
            for reports in terminalreporter.stats.values()
            for report in reports if hasattr(report, 'tracemalloc')]
    terminalreporter.section('memory of tests')
    terminalreporter.line(f'{"peak":>10} {"leak":>10} {"blocks":>12}  test')
    rows.sort(reverse=True)
    for (peak, leak, allocations), name in \
            rows[:config.getoption('--memory-top')]:
        terminalreporter.line(f'{format_size(peak):>10} '
                              f'{format_size(leak):>10} '
                              f'{format_count(allocations):>12}  '
                              f'{printable(name)}')
    if not rows:
        terminalreporter.line('no test has run')
