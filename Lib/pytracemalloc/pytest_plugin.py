"""The pytest plugin: limits on the memory of a test, and a summary.

pytest finds it by the entry point of this interpreter's own distribution.
What is measured is the test itself, not the set-up of its fixtures.  The
thread is hidden while a test is run, but for the test's own function, so what
pytest and its plugins allocate does not count.
"""

import inspect
import unittest

from _tracemalloc import _hidden, _hide_thread, _shown
import pytest

import tracemalloc
from pytracemalloc.arguments import MINE_HELP, MY_CODE_HELP, positive
from pytracemalloc.units import format_count, parse_size
from tracemalloc.places import name_origin, name_place
from tracemalloc.printable import printable
from tracemalloc.process import collect_garbage
from tracemalloc.sizes import format_size

_SITES = 5                        # shown with a failure


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


# Marker -> (parser of its argument, name of what is limited, formatter).
_LIMITS = {
    'limit_memory': (_parse_size, 'peak', format_size,
                     'the test must not use more memory than this'),
    'limit_leaks': (_parse_size, 'leak', format_size,
                    'no line may leave more than this behind'),
    'limit_allocations': (_parse_count, 'allocations', format_count,
                          'the test must not allocate more blocks'),
}


def pytest_addoption(parser):
    group = parser.getgroup('tracemalloc', 'memory of tests')
    group.addoption('--tracemalloc', action='store_true',
                    help='trace every test and show the largest at the end')
    group.addoption('--tracemalloc-top', metavar='N', type=positive,
                    default=10, help='number of tests shown (default: 10)')
    group.addoption('--tracemalloc-my-code', action='store_true',
                    help=f'in failures, {MY_CODE_HELP}')
    group.addoption('--tracemalloc-mine', metavar='PATTERN', default=[],
                    action='append', help=MINE_HELP)


def pytest_configure(config):
    for name, (_, _, _, text) in _LIMITS.items():
        config.addinivalue_line('markers', f'{name}(limit): {text}')


def _markers_of(item):
    """Return the limits of a test: its own replace those of its class."""
    return [marker for name in _LIMITS
            if (marker := item.get_closest_marker(name))]


def pytest_runtest_setup(item):
    # What is wrong with one marker is the failure of one test.
    for marker in _markers_of(item):
        try:
            _limit_of(marker)
        except ValueError as exc:
            pytest.fail(f'{marker.name}: {exc}', pytrace=False)
        if marker.kwargs:
            # Those of other plugins make a limit looser: without them it is
            # not kept by mistake.
            item.warn(pytest.PytestWarning(
                f'{marker.name}: ignoring {", ".join(marker.kwargs)}: what '
                f'all threads allocate counts; leave it out'))


def _limit_of(marker):
    if len(marker.args) != 1:
        raise ValueError('give one argument')
    limit = _LIMITS[marker.name][0](marker.args[0])
    if limit < 0:
        raise ValueError(f'{limit} is negative')
    return limit


class Measurement:
    """What happens between start() and stop(): attributes in bytes, blocks.

    peak: most memory above that of the start; leak: most that one line left
    behind; allocations: blocks allocated.  sites[name]: [(value, blocks,
    where)], largest first.
    """

    complete = False              # False too if the test stopped the tracing

    def __init__(self, item):
        self._mine = item.config.getoption('--tracemalloc-mine')
        self._my_code = bool(self._mine) or item.config.getoption(
            '--tracemalloc-my-code')
        self._test = item.runtest if _is_function(item) else _shown(
            item.runtest)

    @_hidden
    def run(self):
        self.start()
        try:
            self._test()
        finally:
            self.complete = self.stop()

    def start(self):
        collect_garbage()
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start('full' if self._my_code else 1)
        self._before = tracemalloc.take_snapshot(traces=False)
        self._measure = tracemalloc.measure()
        self._measure.__enter__()

    def stop(self):
        """Return False if the test has stopped the tracing."""
        if not tracemalloc.is_tracing():
            return False
        self._measure.__exit__(None, None, None)
        after = tracemalloc.take_snapshot(traces=False)
        collect_garbage()
        collected = tracemalloc.take_snapshot(traces=False)
        if self._started:
            tracemalloc.stop()
        self.peak = self._measure.peak
        self.allocations = self._measure.total_count
        # What is traced beside the tests may have been higher before.
        peaks = [snapshot.traced_memory[1]
                 for snapshot in (self._before, after)]
        at_peak = peaks[0] < peaks[1]
        snapshots = self._before, after, collected
        before, after, collected = map(_by_line, snapshots)
        leaks = _grown(before, 'size', 'count', collected, 'size', 'count')
        self.leak = leaks[0][0] if leaks else 0
        if self._my_code:
            before, after, collected = [
                _by_line(snapshot.my_code(self._mine))
                for snapshot in snapshots]
        self.sites = {
            'peak': _grown(before, 'size', 'count', after, 'peak_size',
                           'peak_count') if at_peak else [],
            'leak': _grown(before, 'size', 'count',
                           collected, 'size', 'count'),
            'allocations': _grown(before, 'total_count', 'total_size',
                                  after, 'total_count', 'total_size')}
        return True


def _is_function(item):
    """True if pytest_pyfunc_call() will call the test."""
    return isinstance(item, pytest.Function) and not (
        item.cls and issubclass(item.cls, unittest.TestCase))


def _by_line(snapshot):
    # By the order of what was ever allocated, or the lines of which nothing is
    # left would be missing.
    return {(frame.filename, frame.lineno): stat
            for stat in snapshot.statistics('lineno', order='total_count')
            for frame in stat.traceback}


def _grown(before, old, old_second, after, new, new_second):
    """Return [(growth of value, growth of second value, where)]."""
    sites = []
    for line, stat in after.items():
        was = before.get(line)
        value = getattr(stat, new) - (getattr(was, old) if was else 0)
        if value > 0:
            second = (getattr(stat, new_second)
                      - (getattr(was, old_second) if was else 0))
            frame = stat.traceback[-1]
            where = name_place(frame.filename, frame.lineno, frame.function)
            where += name_origin(stat)
            sites.append((value, second, printable(where)))
    return sorted(sites, reverse=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    markers = _markers_of(item)
    if not markers and not item.config.getoption('--tracemalloc'):
        yield
        return
    # Not the whole hook: pytest's own work in it is not the test's.
    measurement = Measurement(item)
    item.runtest = measurement.run
    outcome = yield
    del item.runtest
    if not measurement.complete:
        return
    item.tracemalloc = (measurement.peak, measurement.leak,
                        measurement.allocations)
    if outcome.excinfo is None:
        problems = [problem for marker in markers
                    if (problem := _problem(marker, measurement))]
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


def _problem(marker, measurement):
    """Return the text of a failure, None if the limit was kept."""
    limit = _limit_of(marker)
    _, name, show, _ = _LIMITS[marker.name]
    value = getattr(measurement, name)
    if value <= limit:
        return None
    title = {'peak': 'the test used {}, limit {}',
             'leak': 'a line left {} behind, limit {}',
             'allocations': 'the test allocated {} blocks, limit {}'}[name]
    lines = [f'{marker.name}: {title.format(show(value), show(limit))}']
    sites = measurement.sites[name]
    if not sites:
        lines.append('where is not known: traced memory was higher before')
    for value, second, where in sites[:_SITES]:
        figures = ((value, second) if name != 'allocations'
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
    if not config.getoption('--tracemalloc'):
        return
    rows = [(report.tracemalloc, report.nodeid)
            for reports in terminalreporter.stats.values()
            for report in reports if hasattr(report, 'tracemalloc')]
    terminalreporter.section('memory of tests')
    terminalreporter.line(f'{"peak":>10} {"leak":>10} {"blocks":>12}  test')
    rows.sort(reverse=True)
    for (peak, leak, allocations), name in \
            rows[:config.getoption('--tracemalloc-top')]:
        terminalreporter.line(f'{format_size(peak):>10} '
                              f'{format_size(leak):>10} '
                              f'{format_count(allocations):>12}  '
                              f'{printable(name)}')
    if not rows:
        terminalreporter.line('no test has run')
