"""The structures that compiled extensions and debuggers know keep their layout.

A program that prints sizes and offsets is compiled twice, against the headers
of this interpreter and against CPython's own, as they were unpacked. The names
of structures and fields are taken from the preprocessed headers, so none can be
forgotten.
"""
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

# Internal structures that extensions (greenlet), profilers or debuggers read.
# Those in GROWING may get longer: nothing is placed after their end. In _is
# that end is the first thread's record, what follows it is nobody else's.
INTERNAL = {'_PyInterpreterFrame', '_stack_chunk', '_err_stackitem',
            '_is', 'pyruntimestate', '_gc_runtime_state', '_Py_DebugOffsets',
            '_gil_runtime_state', '_ceval_state', '_ceval_runtime_state',
            '_dictkeysobject', '_dictvalues', '_Py_unicode_state'}
GROWING = {'_is', 'pyruntimestate'}
AFTER_THE_END = {'_interactive_src_count', 'threads_preallocated'}
SOURCE = '''
#define Py_BUILD_CORE 1
#include "Python.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#include "internal/pycore_dict.h"
#include <stdio.h>
#include <stddef.h>
'''

# The header of frames, and how it ends but for the locals.
if sys.version_info >= (3, 14):
    FRAMES = 'internal/pycore_interpframe_structs.h'
    FUNCTION = '    _PyStackRef f_funcobj;'
    MARK = '    char owner;'
    PATCHED = 'internal/pycore_freelist.h'
else:
    FRAMES = PATCHED = 'internal/pycore_frame.h'
    FUNCTION = '    PyObject *f_funcobj;'
    MARK = '    char owner;\n    char tracer_mark;'

# What a patch must not do: a header, a line, what it becomes, what moves.
BROKEN = (
    (FRAMES, FUNCTION, '    int moved;' + FUNCTION,
     {'sizeof(struct _PyInterpreterFrame)',
      'offsetof(struct _PyInterpreterFrame, f_funcobj)',
      'offsetof(struct _PyInterpreterFrame, localsplus)'}),
    (FRAMES, MARK, '    char tracer_mark;\n    char owner;',
     {'offsetof(struct _PyInterpreterFrame, owner)'}),
    ('cpython/listobject.h',
     '    Py_ssize_t allocated;', '    Py_ssize_t allocated, longer;',
     {'sizeof(PyListObject)'}),
    ('cpython/object.h',
     '    binaryfunc nb_add;\n    binaryfunc nb_subtract;',
     '    binaryfunc nb_subtract;\n    binaryfunc nb_add;',
     {'offsetof(PyNumberMethods, nb_add)',
      'offsetof(PyNumberMethods, nb_subtract)'}),
)

MARKER = re.compile(r'^# \d+ "(.*?)".*$', re.MULTILINE)
ATTRIBUTE = re.compile(r'__attribute__\s*\(\(.*?\)\)')
STRUCT = re.compile(r'\b(typedef\s+)?struct\s+(\w+)?\s*\{')
NAME = re.compile(r'\s*(\w+)')


def closing_brace(text, start):
    depth = 1
    while depth:
        depth += {'{': 1, '}': -1}.get(text[start], 0)
        start += 1
    return start - 1


def fields(body):
    """The names of the members of a structure; none of bit fields."""
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.DOTALL)
    while '{' in body:
        body = re.sub(r'\{[^{}]*\}', ' ', body)
    for member in body.split(';'):
        if ':' in member or not member.strip():
            continue
        function = re.search(r'\(\s*\*\s*(?:const\s+)?(\w+)\s*\)\s*\(', member)
        if function:
            yield function[1]
            continue
        for declared in re.sub(r'\([^()]*\)', ' ', member).split(','):
            names = re.findall(r'\w+', re.sub(r'\[.*?\]', '', declared))
            # A nested anonymous union has no name of its own.
            if names and names[-1] not in ('union', 'struct'):
                yield names[-1]


def structures(preprocessed, include):
    """Yield (type, fields) of public headers and of INTERNAL."""
    where = [(match.start(), match[1])
             for match in MARKER.finditer(preprocessed)]
    for pattern in MARKER, ATTRIBUTE:
        preprocessed = pattern.sub(lambda match: ' ' * len(match[0]),
                                   preprocessed)
    for match in STRUCT.finditer(preprocessed):
        typedef, name = match.groups()
        if not typedef and not name:
            continue                            # anonymous, a member
        path = next(path for start, path in reversed(where)
                    if start <= match.start())
        public = (path.startswith(include) and '/internal/' not in path)
        if public or name in INTERNAL:
            end = closing_brace(preprocessed, match.end())
            kind = (f'struct {name}' if name
                    else NAME.match(preprocessed, end + 1)[1])
            yield kind, list(fields(preprocessed[match.end():end]))


@unittest.skipUnless(sysconfig.is_python_build(), 'needs the build tree')
class LayoutTests(unittest.TestCase):

    def setUp(self):
        self.compiler = shlex.split(sysconfig.get_config_var('CC'))
        if shutil.which(self.compiler[0]) is None:
            self.skipTest(f'no {self.compiler[0]}')
        self.source = pathlib.Path(sysconfig.get_config_var('srcdir'))
        self.include = self.source / 'Include'
        self.stock = self.source.parent / 'headers'
        self.configuration = pathlib.Path(
            sysconfig.get_config_h_filename()).parent
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def compile(self, include, *arguments):
        return subprocess.run(
            [*self.compiler, '-std=c11', '-Wno-deprecated-declarations',
             f'-I{self.configuration}',
             f'-I{include}', f'-I{include}/internal',
             f'-I{include}/internal/mimalloc', *arguments],
            cwd=self.folder, check=True, text=True, stdout=subprocess.PIPE)

    def questions(self, include):
        """C expressions for all that has to be the same."""
        (self.folder / 'all.c').write_text(SOURCE)
        text = self.compile(include, '-E', 'all.c').stdout
        found = dict(structures(text, str(include)))
        for name in INTERNAL | {'_ts', '_typeobject', 'PyCodeObject',
                                '_object'}:
            self.assertIn(f'struct {name}', found)
        self.assertIn('PyTupleObject', found)
        questions = []
        for kind, members in found.items():
            if kind.removeprefix('struct ') not in GROWING:
                questions.append(f'sizeof({kind})')
            questions += [f'offsetof({kind}, {member})' for member in members
                          if member not in AFTER_THE_END]
        self.assertGreater(len(questions), 500)
        return questions

    def layout(self, include, questions):
        """Answer the questions with the headers there."""
        lines = ''.join(f'printf("%zu\\n", (size_t){question});\n'
                        for question in questions)
        program = self.folder / 'layout.c'
        program.write_text(f'{SOURCE}int main(void) {{ {lines} return 0; }}')
        self.compile(include, 'layout.c', '-o', 'layout')
        answers = subprocess.run([self.folder / 'layout'], check=True,
                                 text=True, stdout=subprocess.PIPE).stdout
        return dict(zip(questions, map(int, answers.split()), strict=True))

    def different(self, include):
        """The questions with another answer there than with CPython's own
        headers."""
        questions = self.questions(self.stock)
        expected = self.layout(self.stock, questions)
        found = self.layout(include, questions)
        return {question for question in questions
                if found[question] != expected[question]}

    def test_stock_headers_are_not_ours(self):
        patched = self.source.parent / 'patched/Include'
        names = [path.relative_to(patched) for path in patched.rglob('*.h')]
        self.assertIn(pathlib.Path(PATCHED), names)
        for name in names:
            self.assertEqual((self.include / name).read_bytes(),
                             (patched / name).read_bytes(), name)
            self.assertNotEqual((self.stock / name).read_bytes(),
                                (patched / name).read_bytes(), name)
        for path in self.stock.rglob('*.h'):
            self.assertNotIn('_PyTracer', path.read_text(), path)

    def test_sizes_and_offsets_are_those_of_stock(self):
        self.assertEqual(self.different(self.include), set())

    def test_differences_are_seen(self):
        for file, old, new, expected in BROKEN:
            with self.subTest(new):
                include = self.folder / 'Include'
                shutil.rmtree(include, ignore_errors=True)
                shutil.copytree(self.include, include)
                path = include / file
                text = path.read_text()
                self.assertEqual(text.count(old), 1)
                path.write_text(text.replace(old, new))
                self.assertLessEqual(expected, self.different(include))


if __name__ == '__main__':
    unittest.main()
