"""What /proc says of another process."""

import contextlib
import os

from pytracemalloc.errors import CommandError

_YAMA = '/proc/sys/kernel/yama/ptrace_scope'
_MAX_ENTRIES = 1 << 23            # bytes of a program's environment


def user_of(pid):
    """Return the user who runs a process."""
    if users := status_of(pid, 'Uid'):
        return int(users[1])
    raise CommandError(f'there is no process {pid}')


def describe_denial(pid):
    """Return why this command may not inspect a process."""
    if os.geteuid() not in (0, user_of(pid)):
        return (f'process {pid} belongs to another user; run this as that '
                f'user or root')
    with contextlib.suppress(OSError), open(_YAMA) as file:
        if file.read().strip() != '0':
            return (f'kernel.yama.ptrace_scope denies access to process '
                    f'{pid}; run this as root, or with CAP_SYS_PTRACE')
    return (f'process {pid} has rights that this command does not have; run '
            f'this with CAP_SYS_PTRACE')


def program_of(pid):
    """Return the program that a process waits for, if it is that of
    `pytracemalloc run`, else its own process id."""
    try:
        words = read_entries(f'/proc/{pid}/cmdline')
        if len(words) > 4 and words[1:3] == [b'-I', b'-S'] and \
                words[3].endswith(b'/pytracemalloc/holder.py'):
            for child in read_entries(f'/proc/{pid}/task/{pid}/children',
                                      b' '):
                # The number that the holder knows it by.
                if child and b'%d' % pid_inside(int(child)) == words[4]:
                    return int(child)
    except OSError:
        pass
    return pid


def pid_inside(pid):
    """Return the process id that a process has for itself."""
    return int((status_of(pid, 'NSpid') or [pid])[-1])


def root_of(pid):
    """Return the root of a process as seen from here, '' if it is ours."""
    root = f'/proc/{pid}/root'
    if os.path.samefile(root, '/') and os.path.samefile(
            f'/proc/{pid}/ns/mnt', '/proc/self/ns/mnt'):
        return ''
    return root


def status_of(pid, name):
    """Return the words of a line of /proc/PID/status; [] if it has none."""
    try:
        lines = read_entries(f'/proc/{pid}/status', b'\n')
    except OSError:
        return []
    for line in lines:
        if line.startswith(b'%b:' % name.encode()):
            return line.split()[1:]
    return []


def read_entries(path, end=b'\0'):
    with open(path, 'rb') as file:
        return file.read(_MAX_ENTRIES).split(end)
