"""Check that imports point downward.

    layers.py           in Lib
    layers.py FOLDER    in another folder that has the packages

The packages of Lib are layers, the lowest first. A module imports its own
package and those below, and no two modules of a package need each other,
directly or by way of others; imports in functions count. A module does not
import its package itself, which would be all of it. What is imported by its
name alone, as by __getattr__() of tracemalloc, is no import here. A file
__main__.py only starts a command, and may start one from above.

Prints each wrong import; the status is then 1.
"""

import ast
import pathlib
import sys

LAYERS = ('tracemalloc', 'pytracemalloc', 'tracemalloctext')
LIBRARY = pathlib.Path(__file__).resolve().parents[1] / 'Lib'


def modules(library):
    """Return {name: path} of all modules of the layers."""
    found = {}
    for layer in LAYERS:
        for path in sorted((library / layer).rglob('*.py')):
            parts = path.relative_to(library).with_suffix('').parts
            if parts[-1] == '__init__':
                parts = parts[:-1]
            found['.'.join(parts)] = path
    return found


def imports(path, names):
    """Yield (line, name) of the modules of *names* that a file imports."""
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in names:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            for alias in node.names:
                inner = f'{node.module}.{alias.name}'
                yield node.lineno, inner if inner in names else node.module


def wrong_layers(graph):
    """Yield a problem for each import that points up, or at the whole."""
    for name, targets in graph.items():
        package = name.partition('.')[0]
        for line, target in targets:
            above = target.partition('.')[0]
            if LAYERS.index(above) > LAYERS.index(package):
                yield f'{name}:{line}: imports {target}, of a layer above'
            elif target == package:
                yield (f'{name}:{line}: imports its own package; import the '
                       f'module that has what is needed')


def circles(graph):
    """Yield a problem for each circle, found from its first module."""
    state = {}

    def visit(name, above):
        state[name] = 'open'
        for line, target in graph[name]:
            if state.get(target) == 'open':
                circle = [*above[above.index(target):], target] \
                    if target in above else [name, target]
                yield f'{name}:{line}: a circle: {" > ".join(circle)}'
            elif target not in state:
                yield from visit(target, [*above, target])
        state[name] = 'done'

    for name in graph:
        if name not in state:
            yield from visit(name, [name])


def main(argv):
    names = modules(pathlib.Path(argv[0]) if argv else LIBRARY)
    if not names:
        print(f'layers.py: {argv[0]} has none of {", ".join(LAYERS)}',
              file=sys.stderr)
        return 2
    graph = {name: [(line, target) for line, target in imports(path, names)
                    if path.name != '__main__.py']
             for name, path in names.items()}
    problems = [*wrong_layers(graph), *circles(graph)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
