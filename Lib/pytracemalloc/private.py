"""Modules that a program does not see.

What a recording needs is imported before the program's first line, as there
may be no memory or no file system for it later.  The program finds sys.modules
as it would be without: an import that it has forgotten is not masked, and what
it imports itself is traced.
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
        """Put back what the program has not imported itself since."""
        modules = sys.modules     # it may be another one by then
        added = [name for name in self._modules if name not in modules]
        modules.update({name: self._modules[name] for name in added})
        try:
            yield
        finally:
            for name in added:
                if modules.get(name) is self._modules[name]:
                    del modules[name]
