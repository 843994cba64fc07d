"""The pages name what is there, and all that is there: options, variables,
functions in C, files, make targets. What Python programs use has a test of its
own, test_docs_names."""
import argparse
import fnmatch
import os
import pathlib
import re
import shlex
import sysconfig
import unittest

import tracemalloctext.command_091
import tracemalloctext.command_line
from pytracemalloc import errors
from pytracemalloc.cli import make_parser
from pytracemalloc.reporters import ALL_FORMATS, find_reporter

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
DOC = TOP / 'Doc'
# Between the frozen parts of the interpreter and the command, not for users.
INTERNAL_VARIABLES = {'PYTRACEMALLOC_RUN', 'PYTRACEMALLOC_VERSION',
                      'PYTRACEMALLOC_FREELISTS'}
VARIABLE = re.compile(r'["\'](PY(?:THON)?TRACEMALLOC\w*)["\']')
PROGRAM = re.compile(r'\.\. program:: pytracemalloc ([\w-]+)$')
OPTION = re.compile(r'\.\. option:: (.+)$')
OPTION_STRING = re.compile(r'(?<![\w-])--?[a-zA-Z][\w-]*')
FILE = re.compile(r'[\w/*-]+\.(?:c\.h|[ch]|py|patch|txt)\b')
IDENTIFIER = re.compile(r'\b[A-Za-z_]*[a-z]_\w+|\b_Py\w+')
# Of the make file, for itself.
INTERNAL_TARGETS = {'all', 'prepare', 'source', 'stock'}
# Shown in a line of their own, or within a sentence.
COMMANDS = re.compile(r'^ *(?:\$ )?(?:make|\./bootstrap)((?: .*)?)$'
                      r'|`(?:make|\./bootstrap)\b([^`]*)`', re.MULTILINE)


def documented_options():
    """{command: options} of the man page."""
    options, command = {}, None
    page = DOC / 'man' / 'pytracemalloc.1.rst'
    for line in page.read_text(encoding='utf-8').splitlines():
        if match := PROGRAM.match(line):
            command = options.setdefault(match[1], set())
        elif match := OPTION.match(line):
            command.update(OPTION_STRING.match(part)[0]
                           for part in match[1].split(', '))
    return options


def real_options():
    """{command: options} of the parser."""
    action, = (action for action in make_parser()._actions
               if isinstance(action, argparse._SubParsersAction))
    return {name: {option for action in parser._actions
                   for option in action.option_strings} - {'-h', '--help'}
            for name, parser in action.choices.items()}


def options_of_definitions(page, pattern):
    """Options in the lines of a page that match, and that follow as deeper."""
    lines = (DOC / 'library' / page).read_text(encoding='utf-8').splitlines()
    found, depth = set(), None
    for line in lines:
        if match := re.match(pattern, line):
            found.update(OPTION_STRING.findall(line))
            depth = match.end()
        elif depth is not None and line[:depth].isspace() and line.strip():
            found.update(OPTION_STRING.findall(line))
        else:
            depth = None
    return found


def named_targets():
    """Targets that the pages for developers name."""
    found = set()
    for path in [*TOP.glob('*.md'), *DOC.rglob('*.rst')]:
        text = path.read_text(encoding='utf-8').replace('\n>', '\n')
        for match in COMMANDS.finditer(text):
            words = shlex.split(match[1] or match[2] or '', comments=True)
            found.update(word for word in words
                         if re.fullmatch('[a-z][a-z0-9-]*', word))
    return found - {'make'}


def read_variables():
    """Environment variables that the sources name in quotes."""
    found = set()
    for folder in ('Python', 'Modules', 'Lib/tracemalloc',
                   'Lib/tracemalloctext', 'Lib/pytracemalloc'):
        for path in (TOP / folder).rglob('*.[cp]*'):
            if path.suffix in ('.c', '.py') and '_testtracer' not in path.name:
                found.update(VARIABLE.findall(
                    path.read_text(encoding='utf-8')))
    return found - INTERNAL_VARIABLES


@unittest.skipUnless(DOC.is_dir(), 'needs the repository')
class ReferenceTests(unittest.TestCase):

    def test_variables(self):
        page = (DOC / 'man' / 'python-tracemalloc.7.rst').read_text(
            encoding='utf-8')
        described = set(re.findall(r'^\*\*(PY\w+)\*\*$', page, re.M))
        self.assertEqual(described, read_variables())

    def test_x_options(self):
        page = (DOC / 'man' / 'python-tracemalloc.7.rst').read_text(
            encoding='utf-8')
        described = set(re.findall(r'^\*\*-X (\w+)\*\*', page, re.M))
        ours = set()
        for name in 'services', 'startup':
            source = (TOP / 'Python' / f'tracer_{name}.c').read_text(
                encoding='utf-8')
            found = re.findall(r'L"(tracemalloc_\w+)=?"', source)
            self.assertTrue(found, name)
            ours.update(found)
        # CPython reads -X tracemalloc itself.
        self.assertEqual(described, {'tracemalloc'} | ours)

    def test_formats(self):
        page = (DOC / 'library' / 'pytracemalloc.rst').read_text(
            encoding='utf-8')
        rows = re.findall(r'^``(\w+)`` +``(\.[\w.]+)`` ', page, re.M)
        self.assertEqual(rows, [(name, find_reporter(name).suffix)
                                for name in ALL_FORMATS])
        page = (DOC / 'man' / 'pytracemalloc.1.rst').read_text(
            encoding='utf-8')
        option = re.search(r'option:: --format.*?Default', page, re.S)[0]
        self.assertEqual(tuple(re.findall('``(\\w+)``', option)),
                         ALL_FORMATS)

    def test_versions(self):
        version = sysconfig.get_config_var('PYTRACEMALLOC_VERSION')
        shown = []
        for path in [TOP / 'Dockerfile', *TOP.glob('*.md'),
                     *DOC.rglob('*.rst')]:
            shown += re.findall(
                r'\(pytracemalloc (\d[\d.]+)|^ARG VERSION=(.+)|'
                r'^This will be (\d+\.\d+\.\d+)',
                path.read_text(encoding='utf-8'), re.M)
        self.assertGreaterEqual(len(shown), 4)
        self.assertEqual({''.join(groups) for groups in shown}, {version})

    def test_functions_in_c(self):
        page = (DOC / 'library' / 'c_api.rst').read_text(encoding='utf-8')
        described = set(re.findall(r'\.\. c:function:: \w+ (\w+)\(', page))
        source = (TOP / 'Python' / 'tracemalloc.c').read_text(
            encoding='utf-8')
        public = set(re.findall(r'^(PyTraceMalloc_\w+)\(', source, re.M))
        self.assertEqual(described, public)

    def test_map_of_the_source(self):
        page = (DOC / 'internals' / 'source.rst').read_text(encoding='utf-8')
        named = {name.rpartition('/')[2]
                 for name in re.findall('``([^`]+)``', page)}
        files = {path.name for folder in (
                     'Include/internal', 'Objects', 'Python', 'Modules',
                     'Modules/_snapshot', 'Lib/tracemalloc',
                     'Lib/tracemalloctext', 'Lib/pytracemalloc', 'Tools')
                 for path in (TOP / folder).iterdir() if path.is_file()}
        self.assertGreater(len(files), 130)
        self.assertEqual(files - named - {'__init__.py'}, set())

    def test_names_in_the_internals(self):
        files, words = set(), set()
        for folder in ('Include', 'Lib', 'Modules', 'Objects', 'Programs',
                       'Python', 'Tools', 'patches'):
            for path in (TOP / folder).rglob('*'):
                files.update([path.relative_to(TOP).as_posix(), path.stem])
                if path.suffix in ('.c', '.h', '.py', '.patch'):
                    words.update(re.findall(
                        r'\w+', path.read_text(encoding='utf-8')))
        checked = 0
        for page in (DOC / 'internals').glob('*.rst'):
            text = page.read_text(encoding='utf-8')
            for literal in re.findall('``([^`]+)``', text):
                for name in FILE.findall(literal):
                    self.assertTrue(fnmatch.filter(files, '*' + name), name)
                    checked += 1
                for name in IDENTIFIER.findall(FILE.sub('', literal)):
                    self.assertIn(name, words | files, page.name)
                    checked += 1
        self.assertGreater(checked, 100)

    def test_options_of_python_m_tracemalloctext(self):
        documented = options_of_definitions('tracemalloctext.rst',
                                            r'\.\. option:: ')
        parser = tracemalloctext.command_line._make_parser()
        real = {option for action in parser._actions
                for option in action.option_strings} - {'-h', '--help'}
        self.assertEqual(documented, real)

    def test_options_of_python_m_tracemalloc(self):
        documented = options_of_definitions('pytracemalloc091.rst', '``-')
        parser = tracemalloctext.command_091._make_parser()
        for action in parser._actions:
            # One name is enough here: the other page has them all.
            names = set(action.option_strings) - {'-h', '--help'}
            if names:
                self.assertTrue(names & documented, names)
                documented -= names
        self.assertEqual(documented, set())

    def test_options_of_configure(self):
        source = (TOP / 'configure.ac').read_text(encoding='utf-8')
        real = set(re.findall(r'AS_HELP_STRING\(\[(--[\w-]+\w)', source))
        real |= {f'--{kind.lower()}-{name}' for kind, name in re.findall(
            r'^CPYTHON_ARG_(ENABLE|WITH)\(\[([\w-]+)', source, re.M)}
        real -= {'--enable', '--with'}
        readme = (TOP / 'README.md').read_text(encoding='utf-8')
        rows = re.findall(r'^\| (`--.+?) \|', readme, re.M)
        documented = set(OPTION_STRING.findall('\n'.join(rows)))
        self.assertEqual(documented, real)

    def test_make_targets(self):
        makefile = (TOP / 'Makefile.pre.in').read_text(encoding='utf-8')
        real = set(' '.join(
            re.findall(r'^\.PHONY:(.+)$', makefile, re.M)).split())
        named = named_targets()
        self.assertEqual(named - real, set(), 'no such target')
        self.assertEqual(real - named - INTERNAL_TARGETS, set(),
                         'not documented')

    def test_options_of_the_man_page(self):
        documented, real = documented_options(), real_options()
        # The page describes both together.
        documented['diff'] = documented['report']
        for command in real:
            with self.subTest(command):
                self.assertEqual(documented.get(command, set()),
                                 real[command])

    def test_exit_statuses(self):
        statuses = {'0', '130', *map(str, (errors.FAILURE, errors.USAGE,
                                           errors.ABOVE))}
        for name, pattern in (
                ('library/pytracemalloc.rst', r'(?m)^   \* - (\d+)\n     -'),
                ('man/pytracemalloc.1.rst', r'(?m)^(\d+)\n   \S')):
            text = (DOC / name).read_text(encoding='utf-8')
            section = text.rpartition('\nExit status\n')[2]
            self.assertEqual({*re.findall(pattern, section)}, statuses, name)


if __name__ == '__main__':
    unittest.main()
