"""Tasks: calls that the memory allocator drives.

A task is called when the traced memory has moved by more than a threshold, or
after a delay.  The allocator notices either, so nothing polls and no thread is
started; the call itself is made in the main thread, between two bytecode
instructions.  The C side is a trigger that fires once (_tracemalloc._Trigger).
Repetition, cancelling and errors are handled here, in calls that are hidden
from the tracer: only the allocations of the task's function are traced.
"""

import atexit
import functools
import os

from _tracemalloc import _Trigger, _hidden, _shown, is_tracing

# Far beyond any use, far from an overflow of the C side.
_MAX_DELAY = 10 ** 9
_MAX_THRESHOLD = 2 ** 60

_scheduled = []


def get_tasks():
    """Get the list of scheduled tasks."""
    return list(_scheduled)


def cancel_tasks():
    """Cancel all scheduled tasks."""
    for task in get_tasks():
        task.cancel()


@functools.cache
def _end_with_process():
    atexit.register(cancel_tasks)
    # A child would write over its parent's snapshot files.
    os.register_at_fork(after_in_child=_cancel_inherited)


def _cancel_inherited():
    """Cancel the tasks of the parent, but not those that another at-fork
    function has scheduled in this child."""
    for task in get_tasks():
        if task._pid != os.getpid():
            task.cancel()


class Task:
    """Task calling func(*args, **kw).

    When scheduled, the task is called when the traced memory is increased or
    decreased by more than *threshold* bytes, or after *delay* seconds.
    """

    def __init__(self, func, /, *args, **kw):
        if not callable(func):
            raise TypeError("func must be callable, not %s"
                            % type(func).__name__)
        self.func = func
        self.func_args = args
        self.func_kwargs = kw or None
        self._delay = None
        self._threshold = None
        self._repeat = None
        self._pid = None
        self._trigger = _Trigger(self._run)

    def __repr__(self):
        # Not its repr: it may be a method of this task.
        name = getattr(self.func, "__qualname__", type(self.func).__name__)
        return "<%s %s delay=%r memory_threshold=%r%s>" % (
            type(self).__name__, name, self._delay, self._threshold,
            " scheduled" if self.is_scheduled() else "")

    def call(self):
        """Call func(*args, **kw) and return the result."""
        return self.func(*self.func_args, **(self.func_kwargs or {}))

    def is_scheduled(self):
        return any(task is self for task in _scheduled)

    @_hidden
    def schedule(self, repeat=None):
        """Schedule the task *repeat* times, or until it is cancelled."""
        if repeat is not None:
            if not isinstance(repeat, int):
                raise TypeError("repeat must be an integer or None, not %s"
                                % type(repeat).__name__)
            if repeat < 1:
                raise ValueError("repeat must be at least 1, not %s" % repeat)
        if self._delay is None and self._threshold is None:
            raise ValueError("the task has neither a delay nor a memory "
                             "threshold: call set_delay() or "
                             "set_memory_threshold() first")
        if not is_tracing():
            raise RuntimeError("the tracemalloc module must be enabled to "
                               "schedule a task: call tracemalloc.enable() "
                               "first")
        _end_with_process()
        self._repeat = repeat
        self._pid = os.getpid()
        if not self.is_scheduled():
            _scheduled.append(self)
        self._arm()

    @_hidden
    def cancel(self):
        """Cancel the task; do nothing if it is not scheduled."""
        self._trigger.disarm()
        _scheduled[:] = [task for task in _scheduled if task is not self]

    def get_delay(self):
        """Get the delay in seconds, None if the timer is disabled."""
        return self._delay

    def set_delay(self, seconds):
        """Call the task after *seconds*; None disables the timer."""
        if seconds is not None:
            if not isinstance(seconds, (int, float)):
                raise TypeError("the delay must be a number of seconds or "
                                "None, not %s" % type(seconds).__name__)
            if not 1 <= seconds <= _MAX_DELAY:
                raise ValueError("the delay must be in range [1; %s] seconds, "
                                 "not %s" % (_MAX_DELAY, seconds))
        self._set_bounds(seconds, self._threshold)

    def get_memory_threshold(self):
        """Get the threshold in bytes, None if it is disabled."""
        return self._threshold

    def set_memory_threshold(self, size):
        """Call the task when the traced memory moves by more than *size*
        bytes; None disables the threshold."""
        if size is not None:
            if not isinstance(size, int):
                raise TypeError("the memory threshold must be an integer or "
                                "None, not %s" % type(size).__name__)
            if not 1 <= size <= _MAX_THRESHOLD:
                raise ValueError("the memory threshold must be in range "
                                 "[1; %s] bytes, not %s"
                                 % (_MAX_THRESHOLD, size))
        self._set_bounds(self._delay, size)

    def _set_bounds(self, delay, threshold):
        self._delay = delay
        self._threshold = threshold
        if delay is None and threshold is None:
            self.cancel()
        elif self.is_scheduled():
            self._arm()

    def _arm(self):
        self._trigger.arm(self._threshold, self._delay)

    @_hidden
    def _run(self):
        """Called by the allocator, which has disarmed the trigger."""
        if self._repeat is not None:
            self._repeat -= 1
            if not self._repeat:
                self.cancel()
        try:
            _shown(self.call)()
        except BaseException:
            self.cancel()
            raise
        if self.is_scheduled():
            self._arm()
