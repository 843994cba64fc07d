"""Compare the free lists and hooks of a CPython tree with the census.

In the C sources it counts every call of a free-list hook, with its file,
function and kind; every field of the structure of all free lists, where
CPython has one; every identifier that looks like a free list of another kind
(`numfree`, `freelist`, ...), file by file; and everything that reads the byte
of frames which holds the tracer's mark, where that byte is a field of
CPython's.
patches/SERIES/census.txt holds what is expected, one line each:

    hook FILE FUNCTION HOOK KIND
    list FIELD
    seen FILE IDENTIFIER,IDENTIFIER,... REMARK

A problem is: a missing or surplus hook, a file that only parks or only
unparks, a list or an identifier that the census does not know (perhaps a free
list that a new release adds), or a reader of the mark. `--update` rewrites the
census from the tree; remarks stay, new identifiers get the remark "?", which is
itself a problem until somebody has looked.
"""
import argparse
import pathlib
import re
import sys

DIRECTORIES = ('Include', 'Modules', 'Objects', 'Parser', 'Python')
HOOK = re.compile(r'_PyTracer_((?:UN)?PARK(?:_GC|_HOT|_LISTED)?)\((\w+)')
FUNCTION = re.compile(r'^(?:[A-Za-z_][\w *]* \*?)?(\w+)\(')
LOOKS_FREE = re.compile(r'\b\w*(?:free_?list|num_?free|free_?blocks|freeslot'
                        r'|slice_cache)\w*\b', re.IGNORECASE)
# Names of mechanisms around free lists, not of lists.
NO_LIST = re.compile(r'WITH_FREELISTS|pycore_freelist|Py_INTERNAL_FREELIST_H'
                     r'|\w*ClearFreeLists?|\w*ClearAllFreeLists'
                     r'|_Py_object_freelists|_Py_object_freelists_GET'
                     r'|freelists|from_freelist|to_freelist|\w*MAX\w*'
                     r'|\w*_NFREELISTS|PyCode_GetNumFree'
                     # One structure has them all.
                     r'|_Py_freelists?|_Py_freelists_GET|pycore_freelist_state'
                     r'|Py_INTERNAL_FREELIST_STATE_H|_Py_FREELIST_\w+'
                     r'|_PyFreeList_\w+|_PyTracer_\w+')
LIST = re.compile(r'^    struct _Py_freelist (\w+)', re.MULTILINE)
LISTS = 'Include/internal/pycore_freelist_state.h'
MARK = re.compile(r'(?:->|\.)visited\b(?! = 0;)')
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
    """The census of the tree: (hook lines, list lines, {file: identifiers},
    places that read the mark)."""
    hooks, lists, seen, readers = [], [], {}, []
    for path in sources(tree):
        name = path.relative_to(tree).as_posix()
        function = '?'
        text = COMMENT.sub(blank, path.read_text(encoding='utf-8'))
        if name == LISTS:
            lists = [f'list {field}' for field in LIST.findall(text)]
        readers += [f'{name}:{text.count(chr(10), 0, match.start()) + 1}'
                    for match in MARK.finditer(text)]
        for line in text.splitlines():
            if match := FUNCTION.match(line):
                function = match.group(1)
            for match in HOOK.finditer(line):
                hooks.append(f'hook {name} {function} {match[1]} {match[2]}')
            for word in LOOKS_FREE.findall(line):
                if not NO_LIST.fullmatch(word):
                    seen.setdefault(name, set()).add(word)
    return sorted(hooks), sorted(lists), seen, readers


def read(path):
    """The census file: (hook lines, list lines, {file: (identifiers,
    remark)})."""
    hooks, lists, seen = [], [], {}
    for line in path.read_text().splitlines():
        if line.startswith('hook '):
            hooks.append(line.strip())
        elif line.startswith('list '):
            lists.append(line.strip())
        elif line.startswith('seen '):
            _, name, words, remark = line.split(None, 3)
            seen[name] = set(words.split(',')), remark
    return sorted(hooks), sorted(lists), seen


def check(tree, path):
    """What differs between the tree and the census, one string each."""
    hooks, lists, seen, readers = look(tree)
    known_hooks, known_lists, known = read(path)
    problems = [f'{where}: reads the byte of frames that is the mark of the'
                f' tracer; give it one of its own' for where in readers]
    problems += [f'{LISTS}: {line.removeprefix("list ")} is a free list that'
                 f' {path.name} does not know; put it into _PyTracer_LISTS()'
                 for line in set(lists) - set(known_lists)]
    problems += [f'{LISTS}: {line.removeprefix("list ")} is gone'
                 for line in set(known_lists) - set(lists)]
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
    hooks, lists, seen, _ = look(tree)
    old = read(path)[2] if path.exists() else {}
    lines = ['# Written by Tools/census.py --update, but for the remarks at',
             '# the end: what it is that looks like a free list there.', '']
    lines += hooks + ['']
    lines += [*lists, ''] if lists else []
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
        hooks, lists, seen, _ = look(options.src)
        print(f'census: {len(hooks)} hooks, {len(lists)} generic lists,'
              f' {len(seen)} files with others, all known')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
