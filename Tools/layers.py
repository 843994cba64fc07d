"""Check that imports and includes point downward.

    layers.py           in this repository
    layers.py FOLDER    in another folder that has its files

The packages of Lib are layers, the lowest first. A module imports its own
package and those below, and no two modules of a package need each other,
directly or indirectly; imports in functions count. A module does not import
its package as a whole. Imports by name, as in __getattr__() of tracemalloc, do
not count. A file __main__.py only starts a command, and may start one of a
higher layer.

The files of the tracer are layers, too: tracer_NAME.c and its header may
include the headers of their own layer and of those below. Only
pycore_tracer_compat*.h have conditions on the version of CPython or on the GIL.

Prints each wrong import, include and condition; the status is then 1.
"""

import ast
import pathlib
import re
import sys

# Packages and layers with what each is for, the lowest first.
LAYERS = {
    'tracemalloc': 'the model, and what runs in every traced process',
    'pytracemalloc': 'reports, the command, servers and their client',
    'tracemalloctext': 'the text interface, and the commands of 0.9.1',
}
TRACER = {
    'what a snapshot consists of, which needs nothing of CPython':
        ('snapshot', 'graph', 'program'),
    'shared state, and the header of the hooks':
        ('', 'compat_frames', 'compat', 'clock', 'state', 'lock', 'interp'),
    'memory of the tracer, and its hash table':
        ('memory', 'kept', 'keep_file', 'keep', 'index'),
    'places in the source, and the call tree':
        ('lines', 'text', 'location', 'tree', 'keep_copy'),
    'capture of the stack':
        ('code', 'cache', 'walk', 'shadow', 'stack', 'unwind',
         'unwind_rules', 'trails', 'native_stacks'),
    'the ledger: counters, the map, tables of pools':
        ('count', 'growth', 'windows', 'map', 'mapped', 'blocks',
         'origins', 'native_cells', 'native_blocks', 'native_ranges',
         'pymalloc_table'),
    'care for all of that: validity, pruning':
        ('valid', 'prune', 'alone'),
    'what is recorded of a block':
        ('record', 'freelist', 'oom'),
    'allocator functions':
        ('hooks', 'native', 'native_arenas', 'native_fault', 'pymalloc', 'pymalloc_head',
         'pymalloc_fused', 'pymalloc_short', 'pymalloc_freelists',
         'pymalloc_named', 'pymalloc_generic', 'pymalloc_install'),
    'control: start, stop, alarms':
        ('tracemalloc', 'start', 'startup', 'services', 'install', 'hide',
         'alarm', 'gils', 'tasks', 'lookup', 'visit', 'history',
         'limit'),
    'taking snapshots':
        ('take', 'take_tree', 'take_blocks', 'take_peaks', 'types', 'buffers',
         'rooms', 'mappings', 'heap', 'heap_index', 'heap_types',
         'heap_shapes', 'heap_texts', 'heap_child', 'heap_code', 'heap_walk',
         'heap_arrays', 'heap_scan', 'heap_garbage', 'heap_roots'),
    'resident memory':
        ('rss', 'rss_read', 'rss_known', 'rss_pointers', 'rss_pools'),
}
# Extension modules above all layers: each has a name and its files.
MODULES = {
    '_tracemalloc': 'Modules/_tracemalloc*.c',
    '_tracemalloc_snapshot': 'Modules/_snapshot/*.[ch]',
    '_tracemalloc_symbols': 'Modules/_symbols/*.c',
}
INCLUDE = re.compile(r'#\s*include "pycore_tracer_?(\w*)\.h"')
COMPAT = 'pycore_tracer_compat.h', 'pycore_tracer_compat_frames.h'
CONDITION = re.compile(r'#\s*(?:if|ifdef|ifndef|elif)\b.*\b('
                       r'PY_(?:VERSION_HEX|M\w+_VERSION)|Py_GIL_DISABLED)\b')
TOP = pathlib.Path(__file__).resolve().parents[1]


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


def import_graph(top):
    """Return {name: (line, name) pairs} of the modules that each imports."""
    found = modules(top / 'Lib')
    return {name: [] if path.name == '__main__.py' else
                  [*imports(path, {*found, *MODULES})]
            for name, path in found.items()}


def wrong_layers(graph):
    """Yield a problem for each import that points up, or at the whole."""
    height = {name: number for number, name in enumerate(LAYERS)}
    for name, targets in graph.items():
        package = name.partition('.')[0]
        for line, target in targets:
            above = target.partition('.')[0]
            if height.get(above, 0) > height[package]:
                yield f'{name}:{line}: imports {target}, of a layer above'
            elif target == package:
                yield (f'{name}:{line}: imports its own package; import the '
                       f'module that has what is needed')


def circles(graph):
    """Yield a problem for each circle, found from its first module."""
    state = {}

    def visit(name, above):
        state[name] = 'open'
        for line, target in graph.get(name, ()):
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


def sources(top):
    """Return {name: paths} of the tracer's files: tree.c and its header."""
    found = {}
    for path in sorted([*(top / 'Python').glob('trace*.c'),
                        *(top / 'Programs').glob('tracer*.c'),
                        *(top / 'Objects').glob('tracer*.c.h'),
                        *(top / 'Include/internal').glob('pycore_tracer*.h')]):
        name = re.sub(r'^(pycore_)?tracer_?|\..*', '', path.name)
        found.setdefault(name, []).append(path)
    return found


def includes(path):
    """Yield (line, name) of the tracer's headers that a file includes."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match[1]


def wrong_includes(top):
    """Yield a problem for each include that points up."""
    height = {name: number for number, names in enumerate(TRACER.values())
              for name in names}
    for name, paths in sources(top).items():
        for path in paths:
            if name not in height:
                yield (f'{path.name}: is in no layer; put it into one of '
                       f'layers.py')
                continue
            for number, target in includes(path):
                if height.get(target, 0) > height[name]:
                    yield (f'{path.name}:{number}: includes '
                           f'pycore_tracer_{target}.h, of a layer above')


def wrong_conditions(top):
    """Yield a problem for each condition on the version or the GIL."""
    paths = [path for paths in sources(top).values() for path in paths]
    for path in [*paths, *(top / 'Modules').glob('_tracemalloc*.c')]:
        if path.name in COMPAT:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := CONDITION.match(line):
                yield (f'{path.name}:{number}: a condition on {match[1]}; '
                       f'these stand in {COMPAT[0]}')


def main(argv):
    top = pathlib.Path(argv[0]) if argv else TOP
    graph = import_graph(top)
    if not graph:
        print(f'layers.py: {top}: no Lib with {", ".join(LAYERS)}',
              file=sys.stderr)
        return 2
    problems = [*wrong_layers(graph), *circles(graph), *wrong_includes(top),
                *wrong_conditions(top)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
