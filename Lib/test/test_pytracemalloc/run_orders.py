"""Run programs of malloc, free and PyTraceMalloc_Track().

    python run_orders.py DOMAIN [FOLDER]

Standard input is a JSON list of programs; output is a line for each, see
_testtracer_orders.c.  test_tracer_orders.py runs this under a stock
interpreter as well, with a module that it has compiled to the folder, so it
imports nothing of ours.
"""
import json
import sys
import tracemalloc


def check_peak():
    snapshot = tracemalloc.take_snapshot()
    current, peak = snapshot.traced_memory
    by_line = snapshot.peak.statistics('lineno')
    assert sum(stat.size for stat in by_line) == peak, (by_line, peak)


def main(domain, *folder):
    sys.path[:0] = folder
    if folder:
        import _testorders as orders
        check_counters = None
    else:
        import _testtracer as orders
        check_counters = orders.check_counters
    programs = json.load(sys.stdin)
    orders.save_allocators()
    tracemalloc.start()
    for program in programs:
        steps = [tuple(step) for step in program]
        tracemalloc.clear_traces()
        result = orders.run_orders(steps, int(domain), len(steps),
                                   tracemalloc.get_traced_memory,
                                   check_counters)
        if check_counters:
            check_peak()
            assert orders.fault() is None, orders.fault()
        print(json.dumps(result))
    tracemalloc.stop()


if __name__ == '__main__':
    main(*sys.argv[1:])
