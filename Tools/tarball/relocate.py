"""Make an installed interpreter independent of the place where it lies.

    relocate.py FOLDER PREFIX BUILD [PLACE]

CPython itself finds its library from where its program is. What is left are
scripts that name the program, and files that say where it was installed or
built.  With PLACE they name this place in the future.
"""
import json
import os
import pathlib
import re
import sys

# For sh, a command that starts the python beside the script; for Python, a
# string.
SHEBANG = '''\
#!/bin/sh
'''"'''exec' "'''"$(dirname -- "$(realpath -- "$0")")/{python}" {options}'''\
'''"$0" "$@"
' ' \'\'\'
'''
SYSCONFIG = '''

def _relocate(value, prefix={prefix!r}):
    """Name the place where the installation lies."""
    import sys
    if isinstance(value, str):
        return value.replace(prefix, sys.base_prefix)
    return value


build_time_vars = {{name: _relocate(value)
                   for name, value in build_time_vars.items()}}
'''


def edit(path, change):
    old = path.read_text()
    new = change(old)
    if new != old:
        path.write_text(new)


def free_script(text, prefix):
    """Return a script that starts the interpreter in its own directory."""
    match = re.match(rf'#!{re.escape(prefix)}/bin/(python[\d.t]*)(?: (.*))?\n',
                     text)
    if match is None:
        return text
    options = f'{match[2]} ' if match[2] else ''
    return (SHEBANG.format(python=match[1], options=options)
            + text[match.end():])


def free_details(text):
    """Return build-details.json with paths from the file itself on."""
    data = json.loads(text)
    prefix = data['base_prefix']

    def free(value):
        if isinstance(value, dict):
            return {name: free(item) for name, item in value.items()}
        if isinstance(value, str) and value.startswith(f'{prefix}/'):
            return value.removeprefix(f'{prefix}/')
        return value

    return json.dumps(free(data) | {'base_prefix': '../..'}, indent=2) + '\n'


def main(folder, prefix, build, place=None):
    library, = folder.glob('lib/python3.*/')
    # Nobody has the directories of the build.
    changes = {os.path.dirname(os.path.realpath(build)): '/build'}
    if place is not None:
        changes[prefix] = place
    for path in [*library.glob('_sysconfig*'), *library.glob('config-3*/*'),
                 *library.glob('build-details.json'),
                 *folder.glob('bin/*'), *folder.glob('lib/pkgconfig/*.pc')]:
        if (path.is_file() and not path.is_symlink()
                and path.suffix not in ('.a', '.o')
                and b'\0' not in path.read_bytes()[:4096]):
            for old, new in changes.items():
                edit(path, lambda text: text.replace(old, new))
    if place is not None:
        return
    for path in folder.glob('bin/*'):
        if not path.is_symlink() and path.read_bytes()[:2] == b'#!':
            edit(path, lambda text: free_script(text, prefix))
    for path in folder.glob('lib/pkgconfig/*.pc'):
        edit(path, lambda text: re.sub(r'(?m)^prefix=.*',
                                       'prefix=${pcfiledir}/../..', text))
    for path in library.glob('_sysconfigdata_*.py'):
        edit(path, lambda text: text + SYSCONFIG.format(prefix=prefix))
    for path in library.glob('build-details.json'):
        edit(path, free_details)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
