"""What `pytracemalloc run` and the program that it runs agree on.

It imports next to nothing: see holder.py.
"""

import _signal

# What is not sent on to the program: it says what the kernel has done, or
# nobody can wait for it.
NOT_SENT_ON = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGSEGV,
               _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL,
               _signal.SIGABRT, _signal.SIGTRAP, _signal.SIGSYS}
# What a process sends that has memory for its tree, to be held.
HOLD_MINE = _signal.SIGRTMIN + 5
MEMORY_NAME = 'pytracemalloc-tree'        # as the kernel calls it
