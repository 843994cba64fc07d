"""The structures that compiled extensions and debuggers know keep their layout.

A program that prints sizes and offsets is compiled twice, against the headers
of this interpreter and against CPython's own, which the build keeps for the
files that it patches. The names of structures and fields are taken from the
preprocessed headers, so none can be forgotten.
"""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
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
        self.configuration = pathlib.Path(
            sysconfig.get_config_h_filename()).parent
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def compile(self, include, *arguments):
        return subprocess.run(
            [*self.compiler, '-std=c11', f'-I{self.configuration}',
             f'-I{include}', f'-I{include}/internal',
             f'-I{include}/internal/mimalloc', *arguments],
            cwd=self.folder, check=True, text=True, stdout=subprocess.PIPE)

    def stock_headers(self):
        """The headers of this tree, with CPython's own where ours differ."""
        include = self.folder / 'Include'
        shutil.copytree(self.source / 'Include', include,
                        ignore=lambda folder, names: [
                            name for name in names
                            if os.path.islink(os.path.join(folder, name))])
        stock = self.source.parent / 'stock' / 'Include'
        if stock.exists():
            shutil.copytree(stock, include, dirs_exist_ok=True)
        return include

    def layout(self, include, questions):
        """Answer the questions, C expressions, with the headers there."""
        lines = ''.join(f'printf("%zu\\n", (size_t){question});\n'
                        for question in questions)
        program = self.folder / 'layout.c'
        program.write_text(f'{SOURCE}int main(void) {{ {lines} return 0; }}')
        self.compile(include, 'layout.c', '-o', 'layout')
        answers = subprocess.run([self.folder / 'layout'], check=True,
                                 text=True, stdout=subprocess.PIPE).stdout
        return dict(zip(questions, map(int, answers.split()), strict=True))

    def test_sizes_and_offsets_are_those_of_stock(self):
        stock = self.stock_headers()
        (self.folder / 'all.c').write_text(SOURCE)
        text = self.compile(stock, '-E', 'all.c').stdout
        found = dict(structures(text, str(stock)))
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
        expected = self.layout(stock, questions)
        here = self.layout(self.source / 'Include', questions)
        self.assertEqual(here, expected)


if __name__ == '__main__':
    unittest.main()
