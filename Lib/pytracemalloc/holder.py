"""The process that waits for the program of `pytracemalloc run`.

keeping.py is replaced by this file, in an interpreter that has imported almost
nothing, since it stays for as long as the program runs.  Modules are imported
once the program has ended and has left its call tree.

    python -I -S holder.py PROGRAM TREE OPTIONS

PROGRAM is the number of a process, which is a child of this one already.  TREE
is the descriptor of the memory that has the tree, or -1 if a file has it.  The
signals that are waited for are blocked.

Signals that somebody sends to this process go to the program; those of the
terminal reach it by themselves.  When the program stops for the terminal, so
does this process, as the shell waits for it.  It ends as the program did.
"""

import _signal
import posix
import sys

from pytracemalloc.agreed import HOLD_MINE, MEMORY_NAME, NOT_SENT_ON

_STOPS = _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU


class Holder:
    def __init__(self, program, tree, options):
        self.program = program
        self.options = options    # of the recording, as text
        self.in_memory = tree >= 0
        self.trees = {tree: program} if tree >= 0 else {}
        self.writer = 0           # process

    def run(self):
        self._close_files()
        status = self._wait()
        if self.writer:
            posix.waitpid(self.writer, 0)
        if not self.in_memory or any(map(_size_of, self.trees)):
            # Writing takes time: the user may interrupt it.
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK,
                                    [_signal.SIGINT, _signal.SIGQUIT])
            self._write(self.trees, status)
        end_like(status)

    def _close_files(self):
        """Keep none of the program's files open: when the program closes one,
        its reader has to see the end."""
        first = 3
        for tree in sorted(self.trees):
            posix.closerange(first, tree)
            first = tree + 1
        posix.closerange(first, 1 << 20)
        null = posix.open('/dev/null', posix.O_RDWR)
        for number in 0, 1:
            posix.dup2(null, number)
        posix.close(null)

    def _wait(self):
        """Send signals on until the program has ended; return its status."""
        watched = _signal.valid_signals() - NOT_SENT_ON
        while True:
            info = _signal.sigwaitinfo(watched)
            number = info.si_signo
            if number == _signal.SIGCHLD:
                status = self._reap()
                if status is not None:
                    return status
            elif number == HOLD_MINE:
                self._take(info.si_pid)
                self._write_dead()
            elif self._is_to_be_sent(info):
                try:
                    posix.kill(self.program, number)
                except OSError:
                    pass          # it has just ended, or is another user's

    def _is_to_be_sent(self, info):
        if info.si_code > 0:      # by the kernel: when the terminal goes, to
            return (info.si_signo == _signal.SIGHUP       # this one alone
                    and posix.getsid(0) == posix.getpid())
        # What the program sends was meant for its group, or its parent.
        return info.si_pid != self.program

    def _reap(self):
        # The first process of a container inherits orphans, too.
        try:
            while True:
                pid, status = posix.waitpid(-1, posix.WNOHANG
                                            | posix.WUNTRACED)
                if not pid:
                    return None
                if pid == self.program:
                    if not posix.WIFSTOPPED(status):
                        return status
                    if posix.WSTOPSIG(status) in _STOPS:
                        posix.kill(posix.getpid(), _signal.SIGSTOP)
                elif pid == self.writer:
                    self.writer = 0
                    self._write_dead()
        except ChildProcessError:
            return None

    # --- Trees of processes that are followed

    def _take(self, process):
        """Hold the memory that will have the tree of a process, and say so in
        it.  What the process held as another program is given back."""
        for tree, owner in [*self.trees.items()]:
            if owner == process != self.program:
                self._forget(tree)
        folder = f'/proc/{process}/fd'
        try:
            names = posix.listdir(folder)
        except OSError:
            return                # it has just ended
        for name in names:
            link = f'{folder}/{name}'
            try:
                if posix.readlink(link).startswith(f'/memfd:{MEMORY_NAME} '):
                    tree = posix.open(link, posix.O_RDWR | posix.O_CLOEXEC)
                    self.trees[tree] = process
                    posix.ftruncate(tree, 1)
            except OSError:
                pass              # closed meanwhile

    def _write_dead(self):
        """Give back the memory of those that have ended."""
        if self.writer:
            return                # until the writer has ended
        dead = [tree for tree, process in self.trees.items()
                if process != self.program and not _is_there(process)]
        try:
            if any(map(_size_of, dead)):
                self.writer = posix.fork()    # it will import much
                if not self.writer:
                    try:
                        self._write(dead, None)
                    finally:
                        posix._exit(0)
        except OSError:
            return                # there may be room for a process later
        for tree in dead:
            self._forget(tree)

    def _forget(self, tree):
        posix.close(tree)
        del self.trees[tree]

    def _write(self, trees, status):
        """Make snapshots of what is left; *status*: of the program."""
        from pytracemalloc import keeping
        keeping.write_missing(
            self.options, [(tree, self.trees[tree] == self.program)
                           for tree in trees if _size_of(tree)], status)


def _size_of(file):
    return posix.fstat(file).st_size


def _is_there(process):
    try:
        posix.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def end_like(status):
    code = posix.waitstatus_to_exitcode(status)
    if code >= 0:
        posix._exit(code)
    import resource
    # One core file is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [-code])
    posix.kill(posix.getpid(), -code)
    # The first process of a container does not die of it.
    posix._exit(128 - code)


if __name__ == '__main__':
    Holder(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()
