"""The completions, in the shells that there are."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from pytracemalloc.commands import COMMANDS
from test.test_pytracemalloc.terminal import Terminal

# What is typed before the tabulator, and what the shell makes of it.
CASES = [
    ('pytracemalloc rep', 'pytracemalloc report'),
    ('pytracemalloc report --form', 'report --format'),
    ('pytracemalloc report --format spe', '--format speedscope'),
    ('pytracemalloc diff --what=garb', '--what=garbage'),
    ('pytracemalloc report --by traceb', '--by traceback'),
    ('pytracemalloc report my', 'report mysnapshot.tracemalloc'),
    ('pytracemalloc report -o my', '-o mysnapshot.tracemalloc'),
    ('pytracemalloc completion zs', 'completion zsh'),
    ('pytracemalloc run --on-gr', 'run --on-growth'),
    ('pytracemalloc report fol/dee', 'report fol/deep.tracemalloc'),
    ('pytracemalloc diff mysnapshot.tracemalloc fol/d',
     'mysnapshot.tracemalloc fol/deep.tracemalloc'),
    ('pytracemalloc reset', 'pytracemalloc reset-peak'),
    ('pytracemalloc diff --fail', 'diff --fail-above'),
    ('pytracemalloc reset-peak --js', 'reset-peak --json'),
    ('pytracemalloc --ver', 'pytracemalloc --version'),
]
# Names that the shell has to quote; fish tells them unquoted.
QUOTED = [('pytracemalloc report a\\ f', r'report a\\ file\\&.tracemalloc')]


class CompletionTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.write('mysnapshot.tracemalloc', '')
        self.write('a file&.tracemalloc', '')
        os.mkdir(os.path.join(self.directory, 'fol'))
        self.write('fol/deep.tracemalloc', '')

    def write(self, name, text):
        with open(os.path.join(self.directory, name), 'w') as file:
            file.write(text)

    def script(self, shell):
        text = subprocess.check_output(
            [sys.executable, '-m', 'pytracemalloc', 'completion', shell],
            text=True)
        self.write('script', text)

    def check_typed(self, shell, *start):
        """Type on a terminal, and see what the tabulator makes of it."""
        self.script(shell)
        path = shutil.which(shell)
        with Terminal(program=(path, *start), columns=200,
                      cwd=self.directory) as terminal:
            if shell == 'zsh':
                terminal.type('autoload -U compinit; compinit -u -D\n')
            terminal.type('. ./script; echo so""urced\n')
            terminal.wait_for('sourced$')
            for typed, completed in CASES + QUOTED:
                with self.subTest(shell=shell, typed=typed):
                    terminal.type('\x15')                    # clear the line
                    terminal.output = ''
                    terminal.type(f'{typed}\t')
                    terminal.wait_for(completed)

    @unittest.skipUnless(shutil.which('bash'), 'needs bash')
    def test_bash(self):
        self.check_typed('bash', '--norc', '--noprofile', '-i')

    @unittest.skipUnless(shutil.which('zsh'), 'needs zsh')
    def test_zsh(self):
        self.check_typed('zsh', '-f', '-i')

    @unittest.skipUnless(shutil.which('fish'), 'needs fish')
    def test_fish(self):
        self.script('fish')
        for typed, completed in CASES:
            with self.subTest(typed=typed):
                output = subprocess.check_output(
                    ['fish', '--no-config', '-c', 'source script; complete -C '
                     f'"{typed}"'], text=True, cwd=self.directory,
                    env=os.environ | {'HOME': self.directory})
                words = [line.partition('\t')[0]
                         for line in output.splitlines()]
                self.assertIn(completed.split()[-1], words)

    def test_every_option(self):
        for command, options in self.options().items():
            offered = {'fish': subprocess.check_output(
                ['fish', '--no-config', '-c', 'source script; complete -C '
                 f'"pytracemalloc {command} -"'], text=True,
                cwd=self.directory, env=os.environ | {'HOME': self.directory})
                } if shutil.which('fish') and not self.script('fish') else {}
            if shutil.which('bash'):
                self.script('bash')
                offered['bash'] = subprocess.check_output(
                    ['bash', '--norc', '-c', '. ./script; COMP_CWORD=2; '
                     f'COMP_WORDS=(pytracemalloc {command} -); '
                     '_pytracemalloc; printf "%s\\n" "${COMPREPLY[@]}"'],
                    text=True, cwd=self.directory)
            for shell, output in offered.items():
                with self.subTest(shell=shell, command=command):
                    words = {line.partition('\t')[0]
                             for line in output.splitlines()}
                    self.assertLessEqual(options, words)

    def options(self):
        from pytracemalloc.cli import make_parser
        parser = make_parser()
        commands = next(action for action in parser._actions
                        if isinstance(action, argparse._SubParsersAction))
        return {name: {flag for action in sub._actions
                       for flag in action.option_strings}
                for name, sub in commands.choices.items()}

    def test_commands_and_values(self):
        for shell in 'bash', 'zsh', 'fish':
            self.script(shell)
            with open(os.path.join(self.directory, 'script')) as file:
                script = file.read()
            for word in *COMMANDS, 'pprof', 'garbage', 'traceback':
                self.assertIn(word, script)


if __name__ == '__main__':
    unittest.main()
