"""Modules that a program does not see.

The modules that a recording needs are imported before the program's first
line, as there may be no memory or no file system to do so later.  The program
sees sys.modules without them: an import that it has forgotten still fails, and
what it imports itself is traced.
"""

import contextlib
import sys


class PrivateModules:
    """Modules that are in sys.modules only while the statement `with` runs."""

    def __init__(self, known):
        """Take away all modules but those that were *known*."""
        self._modules = {name: module for name, module in sys.modules.items()
                         if name not in known}
        for name in self._modules:
            del sys.modules[name]
        self._entered = 0

    @contextlib.contextmanager
    def visible(self):
        """Put back the modules that the program has not imported itself
        since."""
        modules = sys.modules     # it may be another one by then
        added = [name for name in self._modules if name not in modules]
        modules.update({name: self._modules[name] for name in added})
        try:
            yield
        finally:
            for name in added:
                if modules.get(name) is self._modules[name]:
                    del modules[name]
