"""A program whose call tree is kept, and the snapshot of what it has left.

`pytracemalloc run` starts the program as a child, and becomes holder.py, which
waits for it.  The tree is in memory that the program and the holder share and
that has no name: nothing is written to a disk, and nothing is left when both
are gone.  A file outlives the holder as well.  When the program has ended
without writing its snapshot, the holder comes back here.
"""

import contextlib
import glob
import json
import os
import signal
import sys

from pytracemalloc import agreed, kept, summary
from pytracemalloc.cgroup import Kills
from pytracemalloc.errors import CommandError, reason_of
from pytracemalloc.program import execute
from pytracemalloc.recording import MEMORY, insert, name_oom, name_tree
from pytracemalloc.terminal import can_encode, say, width_of
from tracemalloc.printable import printable

_HOLDER = os.path.join(os.path.dirname(__file__), 'holder.py')


def hold(command, options):
    """Run the command, write what it could not write, and end as it does.

    If its tree cannot be kept, say so and run it all the same.
    """
    options |= {'holder': os.getpid(), 'kills': Kills().counts}
    # Nothing that is sent from now on is lost.
    mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, signal.valid_signals() - agreed.NOT_SENT_ON)
    # While it is ignored, nobody learns how a child has ended.
    action = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    memory = -1
    try:
        if options['keep_tree'] == MEMORY:
            memory = _make_memory(options)
        child = os.fork()
    except OSError as exc:
        say(f'the call tree is not kept: {exc.strerror}')
        options['keep_tree'] = None
        child = 0
    if not child:
        signal.signal(signal.SIGCHLD, action)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        execute(command, options)
    if memory >= 0:
        os.set_inheritable(memory, True)
    os.execv(sys.executable, [
        sys.executable, '-I', '-S', _HOLDER, str(child), str(memory),
        json.dumps(options)])


def _make_memory(options):
    memory = os.memfd_create(agreed.MEMORY_NAME)
    status = os.fstat(memory)
    options['memory'] = [f'/proc/{os.getpid()}/fd/{memory}', status.st_dev,
                         status.st_ino]
    return memory


# --- What the holder does when the program has ended

def write_missing(options, memory, status):
    """Make snapshots of the trees that are left, the program's first.

    *memory*: a list of (descriptor, is it the program's).  *status*: of the
    program, None while it runs.
    """
    options = json.loads(options)
    kills = Kills(options['kills'])
    found = (_find_memory(memory) if options['keep_tree'] == MEMORY
             else _find_files(options))
    with contextlib.suppress(KeyboardInterrupt):
        for path, is_first in found:
            try:
                _recover(path, is_first, options, status, kills)
            except (CommandError, OSError, MemoryError) as exc:
                name = options['output'] if memory else path
                say(f'{name}: no snapshot: {reason_of(exc)}')


def _find_memory(memory):
    return [(f'/proc/self/fd/{number}', is_first)
            for number, is_first in sorted(memory, key=lambda each: -each[1])]


def _find_files(options):
    first = options['keep_tree']
    if os.path.exists(first):
        yield first, True
    if options['follow']:
        for path in sorted(glob.glob(name_tree(glob.escape(first), '*'))):
            yield path, False


def _recover(path, is_first, options, status, kills):
    snapshot, known = kept.load(path)
    if known['runs']:                     # a child that has not ended
        return
    output, name = options['output'], options['name']
    if not is_first:
        output, name = (insert(path, known['pid']) for path in (output, name))
    snapshot.dump(output)
    if options['keep_tree'] != MEMORY:
        os.unlink(path)
    if options['quiet']:
        return
    if is_first:
        lines = [f'pytracemalloc: {how_it_ended(status, kills, known)}',
                 *summary.make(snapshot, options['top'], name,
                               width_of(sys.stderr), options['view'],
                               can_encode(sys.stderr, '▁█'))]
    else:
        lines = summary.make_short(snapshot, options['top'], name)
    lines += kept.describe_losses(known)
    lines += _describe_failed(output, name, known['pid'], is_first, options)
    for line in lines:
        print(printable(line), file=sys.stderr)


def _describe_failed(output, name, pid, is_first, options):
    """Return what was live when a request of the process failed, as lines."""
    path, name = ((name_oom(output), name_oom(name)) if options['oom'] else
                  [os.environ.get('PYTRACEMALLOC_OOM', '')] * 2)
    try:
        snapshot, known = kept.load(path)
    except CommandError:
        return []                         # none has failed
    if known['pid'] != pid:
        return []                         # of another process
    return summary.make_failed(snapshot, options['top'], name, not is_first,
                               width_of(sys.stderr), options['view'])


def how_it_ended(status, kills, known):
    """Return in words how a program ended that left its tree."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return (f'{kept.REPLACED}, with status {code}' if known['replaced']
                else f'ended at once with status {code}')
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    evidence = kills.evidence() if -code == signal.SIGKILL else None
    return (f'{kept.REPLACED}, ' * known['replaced'] + f'killed by {name}'
            + (f' ({evidence})' if evidence else ''))
