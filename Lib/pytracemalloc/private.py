"""Modules that a program does not see.

The modules that a recording needs are imported before the program's first
line, as there may be no memory or no file system to do so later, and sys.path
may lead to modules of the program with their names.  The program sees
sys.modules without them: an import that it has forgotten still fails, and what
it imports itself is traced.  See also Modules/_tracemalloc_import.c.
"""

import contextlib
import sys


class PrivateModules:
    """Modules that are in sys.modules only while the statement `with` runs."""

    def __init__(self, known):
        """Take away all modules but those that were *known*, and what the
        import system remembers of their folders."""
        modules = sys.modules.copy()
        self._modules = {name: modules.pop(name) for name in [*modules]
                         if name not in known}
        # Its table is then as small as without them.
        sys.modules.clear()
        sys.modules.update(modules)
        for module in self._modules.values():
            for folder in getattr(module, '__path__', ()):
                sys.path_importer_cache.pop(folder, None)

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
