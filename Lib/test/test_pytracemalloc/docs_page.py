"""Run the blocks of code of one page of documentation.

usage: python -m test.test_pytracemalloc.docs_page PAGE SCRATCH

Prints each block that does not do what the page says, and ends with 1; with 77
if all is well but something had to be left out because pytest is missing.
test_docs.py describes the kinds of blocks.
"""
import configparser
import doctest
import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib

from test.test_pytracemalloc.docs_blocks import blocks_of
from test.test_pytracemalloc.docs_output import matches, numbers_in
from test.test_pytracemalloc.docs_session import Python, Shell, commands_of

TOP = pathlib.Path(os.environ['PYTRACEMALLOC_TOP'])
BUILD = pathlib.Path(sysconfig.get_config_h_filename()).parents[1]
HAVE_PYTEST = importlib.util.find_spec('pytest') is not None
NEEDS_PYTEST = re.compile(r'^\$ pytest|^import pytest', re.MULTILINE)
BLOCKS_LEFT_OUT = 77
LENGTH = 4000           # of a complaint, at most
USED_ANYWAY = {'conftest.py'}
# Not make --dry-run, which runs what has a plus sign.
FIND_TARGETS = '''
for word; do
    case $word in
    -* | *=*) ;;
    *) grep -qE "^\\.PHONY:(.* )?$word( |\\$)" {makefile} || {{
           echo "no target $word" >&2
           exit 2
       }} ;;
    esac
done
'''
PARSERS = {
    '.json': json.loads,
    '.toml': tomllib.loads,
    '.ini': lambda text: configparser.ConfigParser().read_string(text),
    '.cfg': lambda text: configparser.ConfigParser().read_string(text),
}


class Wrong(Exception):
    """What is wrong with a block, and in which of its lines."""

    def __init__(self, message, offset=0):
        super().__init__(message)
        self.offset = offset


class Page:
    def __init__(self, path, scratch):
        self.path = path
        self.blocks = blocks_of(path)
        self.folder = scratch / 'page'
        self.folder.mkdir()
        self.output = None          # of the block before
        self.left_out = False
        self._make_programs(scratch / 'bin')
        os.environ['PATH'] = f'{scratch}/bin:{os.environ["PATH"]}'
        # Where this is set, pytest writes out what it would shorten.
        os.environ.pop('CI', None)
        self.shell = Shell(self.folder, scratch / 'shell')
        self.python = Python(self.folder, scratch / 'python')

    def _make_programs(self, folder):
        """The commands of an installed interpreter, and make, which only
        looks whether there is such a target: it is make that runs this."""
        folder.mkdir()
        python = f'exec {shlex.quote(sys.executable)}'
        configure = shlex.quote(str(TOP / 'configure'))
        make = FIND_TARGETS.format(makefile=shlex.quote(
            str(TOP / 'Makefile.pre.in')))
        for path, command in {
                folder / 'python': f'{python} "$@"',
                folder / 'python3': f'{python} "$@"',
                folder / 'pytracemalloc': f'{python} -m pytracemalloc "$@"',
                folder / 'pytest': f'{python} -m pytest "$@"',
                folder / 'make': make,
                self.folder / 'bootstrap': make,
                self.folder / 'configure': f'exec {configure} "$@"'}.items():
            path.write_text(f'#!/bin/sh\n{command}\n')
            path.chmod(0o755)

    def run(self):
        """Run all blocks; return the complaints."""
        complaints = []
        try:
            for block in self.blocks:
                if block.not_run:
                    self.output = None
                    continue
                try:
                    self._run(block)
                except Wrong as exc:
                    line = block.line + exc.offset
                    text = f'{self.path}:{line}: {exc}'
                    complaints.append(text[:LENGTH])
        finally:
            self.shell.close()
            self.python.close()
        return complaints

    def _run(self, block):
        if block.file:
            self._write(block)
            return
        if not HAVE_PYTEST and NEEDS_PYTEST.search(block.text):
            self.left_out, self.output = True, None
            return
        if unknown := set(block.varying) - numbers_in(block.text):
            raise Wrong(f'is said to vary, and is not there: {unknown}')
        run = getattr(self, f'run_{block.language}', None)
        if run is None:
            raise Wrong(f'no test for {block.language}: use another language,'
                        f' a caption, or say why it is "not run"')
        run(block)

    def _write(self, block):
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        used = path.name in USED_ANYWAY or any(
            path.name in other.text or path.stem in other.text
            for other in self.blocks
            if other is not block and not other.not_run)
        if path.suffix in PARSERS:
            self._parse(PARSERS[path.suffix], block)
        elif not used:
            raise Wrong(f'{block.file} is not used by another block')

    def _parse(self, parse, block):
        try:
            parse(block.text)
        except (ValueError, configparser.Error) as exc:
            raise Wrong(str(exc)) from None

    def run_json(self, block):
        self._parse(json.loads, block)

    def run_toml(self, block):
        self._parse(tomllib.loads, block)

    def run_testsetup(self, block):
        self.run_python(block)

    def run_python(self, block):
        (self.folder / 'example.py').write_text(block.text)
        status, self.output = self.python.run(block.text, 'example.py', 'exec')
        if status:
            lines = re.findall(r'"example\.py", line (\d+)', self.output)
            raise Wrong(self.output, int(lines[0]) - 1 if lines else 0)

    def run_doctest(self, block):
        for example in doctest.DocTestParser().get_examples(block.text):
            _, self.output = self.python.run(example.source)
            if not matches(example.want, self.output, block.varying):
                raise Wrong(f'{example.source}expected\n{example.want}found\n'
                            f'{self.output}', example.lineno)

    def run_console(self, block):
        commands = commands_of(block.text)
        for index, (offset, command, expected) in enumerate(commands):
            background = command.endswith('&')
            status, output = self.shell.run(
                command,
                (lambda text: matches(expected, text, block.varying))
                if background and expected else None)
            following = commands[index + 1:][:1]
            shown = any('$?' in text for _, text, _ in following)
            if status and not shown:
                raise Wrong(f'{command}: exit status {status}\n{output}',
                            offset)
            if not matches(expected, output, block.varying):
                raise Wrong(f'{command}: expected\n{expected}\nfound\n'
                            f'{output}', offset)
            self.output = output

    def run_sh(self, block):
        status, self.output = self.shell.run(f'(set -eu\n{block.text})')
        if status:
            raise Wrong(f'exit status {status}\n{self.output}')

    def run_text(self, block):
        if self.output is None:
            raise Wrong('nothing before this prints anything')
        if not matches(block.text, self.output, block.varying):
            raise Wrong(f'expected\n{block.text}\nfound\n{self.output}')

    def run_none(self, block):
        """A synopsis: the program has each option that it names."""
        words = block.text.split()
        if words[0] not in ('pytracemalloc', 'python'):
            raise Wrong('neither a synopsis of pytracemalloc or python -m nor'
                        ' "not run"; for output, write text')
        count = 3 if words[0] == 'python' else 2
        status, text = self.shell.run(f'{shlex.join(words[:count])} --help')
        for option in re.findall(r'(?<![\w-])--?[a-zA-Z][\w-]*',
                                 ' '.join(words[count:])):
            if not re.search(rf'(?<![\w-]){option}(?![\w-])', text):
                raise Wrong(f'{" ".join(words[:count])} has no {option}')

    def run_c(self, block):
        command = [*shlex.split(sysconfig.get_config_var('CC')),
                   '-fsyntax-only', '-Wall', '-Werror',
                   '-Wno-unused-function', '-include', 'Python.h',
                   f'-I{BUILD}/src/Include', f'-I{BUILD}/obj', '-x', 'c', '-']
        result = subprocess.run(command, input=block.text, text=True,
                                capture_output=True)
        if result.returncode:
            raise Wrong(result.stderr)


def main():
    path, scratch = map(pathlib.Path, sys.argv[1:])
    page = Page(path, scratch)
    complaints = page.run()
    print('\n'.join(complaints))
    return 1 if complaints else BLOCKS_LEFT_OUT if page.left_out else 0


if __name__ == '__main__':
    sys.exit(main())
