"""The small process that waits for a program whose call tree is kept.

`pytracemalloc run --keep-tree` runs the program in a child and waits: when the
child has gone without writing its snapshot, the snapshot is made here, of the
tree that it has left.  Signals that somebody sends to this process go to the
program; those of the terminal reach it by themselves.  This process ends as the
program did.
"""

import contextlib
import glob
import os
import resource
import signal
import sys

from pytracemalloc import kept, summary
from pytracemalloc.cgroup import Kills
from pytracemalloc.errors import CommandError
from pytracemalloc.program import execute
from pytracemalloc.terminal import say, width_of
from tracemalloc.printable import printable

# Those that say what the kernel has done, or stop both processes anyway.
_NOT_SENT_ON = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
                signal.SIGTTOU, signal.SIGCONT, signal.SIGSEGV, signal.SIGBUS,
                signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP,
                signal.SIGSYS}


def hold(command, options):
    """Run the command; write what it could not; end as it does."""
    options['keep_tree'] = True
    kills = Kills()
    watched = signal.valid_signals() - _NOT_SENT_ON
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        execute(command, options)
    status = _wait(child, watched)
    with contextlib.suppress(KeyboardInterrupt):
        _write_missing(options, child, status, kills)
    _end_like(status, mask)


def _wait(child, watched):
    """Send signals on to the child until it has ended; return its status."""
    while True:
        info = signal.sigwaitinfo(watched)
        if info.si_signo != signal.SIGCHLD:
            if info.si_code <= 0:         # sent by a process
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, info.si_signo)
            continue
        # The first process of a container has the orphans, too.
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    return ended[1]


def _end_like(status, mask):
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    number = -code
    # One core file is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask - {number})
    os.kill(os.getpid(), number)
    # The first process of a container does not die of it.
    os._exit(128 + number)


def _write_missing(options, child, status, kills):
    """Make snapshots of the trees that are left, the program's first."""
    output = options['output']
    first = output + kept.KEPT
    stem, suffix = os.path.splitext(output)
    others = sorted(glob.glob(f'{glob.escape(stem)}.*'
                              f'{glob.escape(suffix + kept.KEPT)}'))
    for tree in [first, *others]:
        if os.path.exists(tree):
            try:
                _recover(tree, options, how_it_ended(status, kills)
                         if tree == first else 'killed')
            except (CommandError, OSError, MemoryError) as exc:
                reason = getattr(exc, 'strerror', None) or exc or repr(exc)
                say(f'{tree}: no snapshot: {reason}')


def _recover(tree, options, how):
    snapshot, known = kept.load(tree)
    if known['runs']:                     # a child that has not ended
        return
    output = tree.removesuffix(kept.KEPT)
    name = options['name']
    snapshot.dump(output)
    os.unlink(tree)
    if options['quiet']:
        return
    if output == options['output']:
        lines = [f'pytracemalloc: {how}', *summary.make(
            snapshot, options['top'], name, width_of(sys.stderr),
            options['view'])]
    else:
        lines = summary.make_short(snapshot, options['top'], output)
    lines += kept.describe_losses(known)
    for line in lines:
        print(printable(line), file=sys.stderr)


def how_it_ended(status, kills):
    """Return in words how a program ended that left its tree."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return (f'ended at once with status {code}, or as another program '
                f'(os.execv)')
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    evidence = kills.evidence() if -code == signal.SIGKILL else None
    return f'killed by {name}' + (f' ({evidence})' if evidence else '')
