"""The timer of pytracemalloc 0.9.1: one task that has a delay."""

from tracemalloc.task import Task

_timer = None


def start_timer(delay, func, args=(), kwargs=None):
    """Call func(*args, **kwargs) every *delay* seconds.

    A second call replaces the first.  The call is made by an allocation, in
    the main thread, at least *delay* seconds after the last one ended.
    """
    global _timer
    timer = Task(func, *(args or ()), **(kwargs or {}))
    timer.set_delay(delay)
    timer.schedule()
    stop_timer()
    _timer = timer


def stop_timer():
    """Stop the timer; do nothing if it is not running."""
    global _timer
    if _timer is not None:
        _timer.cancel()
        _timer = None
