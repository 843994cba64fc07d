"""Lay out the source distribution of the package that only reads snapshots.

    assemble.py FOLDER VERSION

The files are those of the repository, as they stand, but for imports: stock
CPython has a module tracemalloc of its own, and the package must leave it
alone. So the modules below move into the package pytracemalloc, and each
statement that imports one names it there. All of that stands here; no line of
Lib knows of it.
"""
import ast
import pathlib
import shutil
import sys

MOVED = 'tracemalloc', '_tracemalloc', '_tracemalloc_snapshot'
HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
HEADERS = ('pycore_tracer_graph.h', 'pycore_tracer_kept.h',
           'pycore_tracer_snapshot.h')
# Files of this folder: what takes the place of the tracer, and of the first
# file of the package tracemalloc, which offers it.
REPLACED = {
    'untraced.py': 'Lib/pytracemalloc/_tracemalloc.py',
    'reader.py': 'Lib/pytracemalloc/tracemalloc/__init__.py',
}
MANIFEST = 'graft Include\ngraft Modules\n'


def is_moved(name):
    return name is not None and name.partition('.')[0] in MOVED


def new_import(name):
    """Return what to write for `import NAME`."""
    package, _, inner = name.partition('.')
    text = f'from pytracemalloc import {package}'
    return f'{text}; import pytracemalloc.{name}' if inner else text


def edits(source, path):
    """Yield (line, column, old, new) for each import of a moved module."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.ImportFrom) and is_moved(node.module):
            yield (node.lineno, node.col_offset, f'from {node.module} ',
                   f'from pytracemalloc.{node.module} ')
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names
                     if is_moved(alias.name)]
            if names:
                yield (node.lineno, node.col_offset, f'import {names[0]}',
                       new_import(names[0]))


def rewrite(source, path):
    """Return the source with its imports of moved modules."""
    lines = source.splitlines(keepends=True)
    for number, column, old, new in edits(source, path):
        line = lines[number - 1]
        if not line.startswith(old, column):
            sys.exit(f'{path}:{number}: cannot move this import; write it as '
                     f'`import NAME` or `from NAME import ...`')
        lines[number - 1] = line[:column] + new + line[column + len(old):]
    result = ''.join(lines)
    left = [*edits(result, path)]
    if left:
        sys.exit(f'{path}:{left[0][0]}: an import that has several modules; '
                 f'write one for each')
    return result


def files_of(package):
    for path in sorted((TOP / 'Lib' / package).rglob('*')):
        if path.is_file() and '__pycache__' not in path.parts:
            yield path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def template(name, version):
    text = (HERE / name).read_text(encoding='utf-8')
    return text.replace('@VERSION@', version)


def assemble(folder, version):
    library = folder / 'Lib' / 'pytracemalloc'
    for path in files_of('pytracemalloc'):
        relative = path.relative_to(TOP / 'Lib' / 'pytracemalloc')
        put(path, library / relative)
    for path in files_of('tracemalloc'):
        relative = path.relative_to(TOP / 'Lib')
        if relative.name not in ('__init__.py', '__main__.py'):
            put(path, library / relative)
    for name, place in REPLACED.items():
        write(folder / place, template(name, version))
    for path in [*sorted((TOP / 'Modules/_snapshot').glob('*.[ch]')),
                 *(TOP / 'Include/internal' / name for name in HEADERS)]:
        write(folder / path.relative_to(TOP), path.read_text())
    for name in 'pyproject.toml', 'setup.py', 'README.md':
        write(folder / name, template(name, version))
    write(folder / 'MANIFEST.in', MANIFEST)
    shutil.copyfile(TOP / 'LICENSE', folder / 'LICENSE')


def put(path, place):
    text = path.read_text(encoding='utf-8')
    write(place, rewrite(text, path) if path.suffix == '.py' else text)


if __name__ == '__main__':
    assemble(pathlib.Path(sys.argv[1]), sys.argv[2])
