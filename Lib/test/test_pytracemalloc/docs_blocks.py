"""The blocks of code of a page of documentation, in order.

A page is reStructuredText or Markdown. What is recognised is what the pages
use, and what would escape a test is an error: a literal block of another
form (parsed-literal, code) has to be written as a code-block.
"""
import dataclasses
import re
import textwrap

DIRECTIVE = re.compile(r'( *)\.\. (code-block|testsetup)::(?: +(\S+))?$')
OTHER_FORM = re.compile(r' *\.\. (parsed-literal|code|sourcecode|highlight|'
                        r'testcode|testoutput|doctest)::')
LITERAL = re.compile(r'( *)(?!\.\. ).*::$')
OPTION = re.compile(r':([a-z-]+):(?: +(.+))?$')
# Why a block cannot be run; which of its numbers are not exact, and why.
REMARK = re.compile(r' *(?:\.\.|<!--) (not run|varies [\d][\d., ]*): (.+)')
FENCE = re.compile(r'```(\w*)$')


@dataclasses.dataclass
class Block:
    """A block of code: its language, and the file that it is, if any."""
    language: str
    text: str
    line: int                   # of the first line of the text, from 1
    file: str | None = None
    not_run: str | None = None  # why it cannot be tested
    varying: dict = dataclasses.field(default_factory=dict)     # with reasons

    def __post_init__(self):
        if self.language == 'python' and self.text.startswith('>>> '):
            self.language = 'doctest'


class Remarks:
    """The remarks before a block, which the next block takes."""

    def __init__(self):
        self._not_run = None
        self._varying = {}

    def add(self, match, more=()):
        what, reason = match.groups()
        reason = ' '.join([reason, *more]).removesuffix('-->').strip()
        if what == 'not run':
            self._not_run = reason
        else:
            for number in what.split()[1:]:
                self._varying[number] = reason

    def take(self):
        taken = {'not_run': self._not_run, 'varying': self._varying}
        self.__init__()
        return taken


def blocks_of(path):
    """Return the list of Block of a page; raise ValueError for what is not
    understood."""
    lines = path.read_text(encoding='utf-8').expandtabs().splitlines()
    if path.suffix == '.md':
        return list(_markdown(lines))
    return list(_restructured(lines, path))


def _indentation(line):
    return len(line) - len(line.lstrip())


def _indented(lines, start, outer):
    """Return the end of what is indented by more than *outer* from *start*."""
    end = start
    while end < len(lines) and (not lines[end].strip() or
                                _indentation(lines[end]) > outer):
        end += 1
    return end


def _restructured(lines, path):
    number, remarks = 0, Remarks()
    while number < len(lines):
        line = lines[number]
        number += 1
        if OTHER_FORM.match(line):
            raise ValueError(f'{path}:{number}: write this as a code-block')
        if line.strip().startswith('.. contents::'):
            raise ValueError(f'{path}:{number}: the theme shows the contents '
                             f'of a page itself, and an error for this')
        if match := REMARK.match(line):
            end = _indented(lines, number, _indentation(line))
            remarks.add(match, map(str.strip, lines[number:end]))
            number = end
            continue
        language, options = 'python', {}
        if match := DIRECTIVE.match(line):
            language = match[3] or match[2]
            while number < len(lines) and (
                    option := OPTION.match(lines[number].strip())):
                options[option[1]] = option[2]
                number += 1
        elif line.lstrip().startswith('>>> '):
            number -= 1
            match = re.match('()', line)
        else:
            match = LITERAL.match(line)
        if not match:
            continue
        if line.lstrip().startswith('>>> '):
            end = number
            while end < len(lines) and lines[end].strip():
                end += 1
        else:
            end = _indented(lines, number, len(match[1]))
        while number < end and not lines[number].strip():
            number += 1
        text = textwrap.dedent('\n'.join(lines[number:end])).rstrip() + '\n'
        if not text.strip():
            raise ValueError(f'{path}:{number}: a block without content')
        yield Block(language, text, number + 1, options.get('caption'),
                    **remarks.take())
        number = end


def _markdown(lines):
    number, remarks = 0, Remarks()
    while number < len(lines):
        line = lines[number]
        number += 1
        if match := REMARK.match(line):
            remarks.add(match)
        elif match := FENCE.match(line):
            end = lines.index('```', number)
            yield Block(match[1] or 'none', '\n'.join(lines[number:end]) +
                        '\n', number + 1, **remarks.take())
            number = end + 1
