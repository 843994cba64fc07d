"""Run one workload in this process and write what it took as JSON.

    python [options] child.py MODULE NAME LOOPS RESULT

The clocks run only while the workload's function runs, so start-up is not part
of it.  RESULT gets {"wall", "cpu", "peak_kib"}: seconds on the clock, seconds
of processor time of this process and its children, and the peak of resident
memory over the life of the process, from the kernel's own count.  The count
that wait4() gives the parent is of no use: it starts at what the parent itself
had when it forked.
"""

import os
import sys
import time


def peak_kib():
    """Peak resident memory of this process or a child of it, in KiB."""
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with open('/proc/self/status') as status:
            for line in status:
                if line.startswith('VmHWM:'):
                    peak = int(line.split()[1])
    except OSError:
        pass
    return max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def cpu_seconds():
    """Processor time of this process and of its dead children."""
    children = os.times()
    return (time.process_time() + children.children_user
            + children.children_system)


def main():
    module, name, loops, result = sys.argv[1:]
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.insert(0, here)
    import workloads
    work = workloads.load(module, name).run
    wall, cpu = time.perf_counter(), cpu_seconds()
    work(int(loops))
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    with open(result, 'w') as out:
        out.write('{"wall": %r, "cpu": %r, "peak_kib": %d}'
                  % (wall, cpu, peak_kib()))


if __name__ == '__main__':
    main()
