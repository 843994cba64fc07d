"""The reference names what is there: functions, classes, methods, options."""
import argparse
import importlib
import inspect
import os
import pathlib
import re
import unittest

from pytracemalloc.cli import make_parser

DOC = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', '')) / 'Doc'
MODULE = re.compile(r'\.\. (?:current)?module:: ([\w.]+)$')
NAMES = re.compile(r'( *)\.\. (function|class|method|staticmethod|classmethod)'
                   r':: (\w+)')
MORE_NAMES = re.compile(r' +(\w+)\(')
PROGRAM = re.compile(r'\.\. program:: pytracemalloc (\w+)$')
OPTION = re.compile(r'\.\. option:: (.+)$')


def documented_names(path):
    """Yield (line, module, name) of the Python objects of a page."""
    module = outer = None
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        if match := MODULE.match(line):
            module = match[1]
        match = NAMES.match(line)
        if not match:
            continue
        indent, kind, name = match.groups()
        if not indent:
            outer = name
        prefix = f'{outer}.' if 'method' in kind else ''
        yield number, module, prefix + name
        # Further names stand under the first one.
        for following in lines[number:]:
            more = MORE_NAMES.match(following)
            if not more or ':' in following:
                break
            yield number, module, prefix + more[1]


def documented_options():
    """{command: options} of the man page."""
    options, command = {}, None
    page = DOC / 'man' / 'pytracemalloc.1.rst'
    for line in page.read_text(encoding='utf-8').splitlines():
        if match := PROGRAM.match(line):
            command = options.setdefault(match[1], set())
        elif match := OPTION.match(line):
            command.update(part.split()[0] for part in match[1].split(', '))
    return options


def real_options():
    """{command: options} of the parser."""
    action, = (action for action in make_parser()._actions
               if isinstance(action, argparse._SubParsersAction))
    return {name: {option for action in parser._actions
                   for option in action.option_strings} - {'-h', '--help'}
            for name, parser in action.choices.items()}


@unittest.skipUnless(DOC.is_dir(), 'needs the repository')
class ReferenceTests(unittest.TestCase):

    def test_names(self):
        count = 0
        for path in sorted((DOC / 'library').glob('*.rst')):
            for line, module, name in documented_names(path):
                with self.subTest(page=path.name, line=line):
                    value = importlib.import_module(module)
                    for part in name.split('.'):
                        value = inspect.getattr_static(value, part)
                count += 1
        self.assertGreater(count, 80)

    def test_options_of_the_man_page(self):
        documented, real = documented_options(), real_options()
        # The page describes both together.
        documented['diff'] = documented['report']
        for command in real:
            with self.subTest(command):
                self.assertEqual(documented.get(command, set()),
                                 real[command])


if __name__ == '__main__':
    unittest.main()
