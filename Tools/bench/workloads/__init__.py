"""What is measured: one registry of workloads, for every mode and every peer.

A workload is a function of one integer, the number of loops; its cost is
proportional to that.  LOOPS gives about 0.3 s with an untraced CPython on a
machine of 2024.  Importing the module must be cheap: the clock of child.py
runs only while the function runs.
"""

import dataclasses
import importlib

MODULES = ('numeric', 'containers', 'objects', 'flow', 'text', 'system',
           'servers', 'patterns')
REGISTRY = {}


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    module: str
    run: object
    loops: int
    quick: bool     # part of BENCH=quick
    threads: bool   # several threads: not to share a core with a neighbour
    about: str      # first line of the function's docstring


def workload(loops, *, quick=True, threads=False):
    """Register the decorated function under its own name."""
    def register(function):
        name = function.__name__
        if name in REGISTRY:
            raise ValueError(f'two workloads are called {name}')
        about = (function.__doc__ or '').partition('\n')[0]
        module = function.__module__.rpartition('.')[2]
        REGISTRY[name] = Workload(name, module, function, loops, quick,
                                  threads, about)
        return function
    return register


def load_all():
    """Import every module of workloads and return the registry."""
    for module in MODULES:
        importlib.import_module(f'{__name__}.{module}')
    return REGISTRY


def load(module, name):
    """Return one workload, importing its own module only."""
    importlib.import_module(f'{__name__}.{module}')
    return REGISTRY[name]
