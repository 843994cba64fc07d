"""Compare the free lists and hooks of a CPython tree with the census.

Two things are counted in the C sources: every call of a free-list hook, with
its file, function and kind; and every identifier that looks like a free list
(`numfree`, `freelist`, ...), file by file. patches/SERIES/census.txt holds
what is expected, one line each:

    hook FILE FUNCTION HOOK KIND
    seen FILE IDENTIFIER,IDENTIFIER,... REMARK

A hook too few or too many, a file that only parks or only unparks, and an
identifier that the census does not know (a free list that a new release adds,
perhaps) is a problem. `--update` rewrites the census from the tree; remarks
stay, new identifiers get the remark "?", which is itself a problem until
somebody has looked.
"""
import argparse
import pathlib
import re
import sys

DIRECTORIES = ('Include', 'Modules', 'Objects', 'Parser', 'Python')
HOOK = re.compile(r'_PyTracer_((?:UN)?PARK(?:_GC|_HOT)?)\((\w+)')
FUNCTION = re.compile(r'^(?:[A-Za-z_][\w *]* \*?)?(\w+)\(')
LOOKS_FREE = re.compile(r'\b\w*(?:free_?list|num_?free|free_?blocks|freeslot'
                        r'|slice_cache)\w*\b', re.IGNORECASE)
# Names of mechanisms around free lists, not of lists.
NO_LIST = re.compile(r'WITH_FREELISTS|pycore_freelist|Py_INTERNAL_FREELIST_H'
                     r'|\w*ClearFreeLists?|\w*ClearAllFreeLists'
                     r'|_Py_object_freelists|_Py_object_freelists_GET'
                     r'|freelists|from_freelist|to_freelist|\w*MAX\w*'
                     r'|\w*_NFREELISTS|PyCode_GetNumFree')
COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.DOTALL)


def sources(tree):
    """CPython's C files; ours are links, or carry the tracer's name."""
    for directory in DIRECTORIES:
        for path in sorted((tree / directory).rglob('*.[ch]')):
            if not path.is_symlink() and 'clinic' not in path.parts:
                yield path


def blank(match):
    return '\n' * match.group().count('\n')


def look(tree):
    """The census of the tree: (hook lines, {file: identifiers})."""
    hooks, seen = [], {}
    for path in sources(tree):
        name = path.relative_to(tree).as_posix()
        function = '?'
        text = COMMENT.sub(blank, path.read_text(encoding='utf-8'))
        for line in text.splitlines():
            if match := FUNCTION.match(line):
                function = match.group(1)
            for match in HOOK.finditer(line):
                hooks.append(f'hook {name} {function} {match[1]} {match[2]}')
            for word in LOOKS_FREE.findall(line):
                if not NO_LIST.fullmatch(word):
                    seen.setdefault(name, set()).add(word)
    return sorted(hooks), seen


def read(path):
    """The census file: (hook lines, {file: (identifiers, remark)})."""
    hooks, seen = [], {}
    for line in path.read_text().splitlines():
        if line.startswith('hook '):
            hooks.append(line.strip())
        elif line.startswith('seen '):
            _, name, words, remark = line.split(None, 3)
            seen[name] = set(words.split(',')), remark
    return sorted(hooks), seen


def check(tree, path):
    """What differs between the tree and the census, one string each."""
    hooks, seen = look(tree)
    known_hooks, known = read(path)
    problems = []
    for line in set(hooks) | set(known_hooks):
        have, want = hooks.count(line), known_hooks.count(line)
        if have != want:
            problems.append(f'{line.removeprefix("hook ")}: {have} of {want}'
                            f' in the tree')
    for name, words in seen.items():
        known_words, remark = known.get(name, (set(), ''))
        new = words if remark == '?' else words - known_words
        problems += [f'{name}: {word} looks like a free list; hook it, or say'
                     f' in {path.name} why not' for word in new]
    for name in {line.split()[1] for line in hooks}:
        calls = [line.split()[3] for line in hooks if line.split()[1] == name]
        if {call.startswith('UN') for call in calls} != {True, False}:
            problems.append(f'{name}: parks without unparking, or the other'
                            f' way round')
    return sorted(problems)


def update(tree, path):
    hooks, seen = look(tree)
    old = read(path)[1] if path.exists() else {}
    lines = ['# Written by Tools/census.py --update, but for the remarks at',
             '# the end: what it is that looks like a free list there.', '']
    lines += hooks + ['']
    for name, words in sorted(seen.items()):
        known_words, remark = old.get(name, (set(), '?'))
        remark = remark if words <= known_words else '?'
        lines.append(f'seen {name} {",".join(sorted(words))} {remark}')
    path.write_text('\n'.join(lines) + '\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--top', type=pathlib.Path, required=True)
    parser.add_argument('--series', required=True)
    parser.add_argument('--src', type=pathlib.Path, required=True,
                        help='the patched CPython tree')
    parser.add_argument('--update', action='store_true')
    options = parser.parse_args()
    path = options.top / 'patches' / options.series / 'census.txt'
    if options.update:
        update(options.src, path)
        return 0
    problems = check(options.src, path)
    for problem in problems:
        print(f'census: {problem}', file=sys.stderr)
    if not problems:
        hooks, seen = look(options.src)
        print(f'census: {len(hooks)} hooks, {len(seen)} files with free lists,'
              f' all known')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
