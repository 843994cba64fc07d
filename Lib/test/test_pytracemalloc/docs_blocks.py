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
NOT_RUN = re.compile(r' *\.\. not run: (.+)|<!-- not run: (.+) -->$')
FENCE = re.compile(r'```(\w*)$')


@dataclasses.dataclass
class Block:
    """A block of code: its language, and the file that it is, if any."""
    language: str
    text: str
    line: int                   # of the first line of the text, from 1
    file: str | None = None
    not_run: str | None = None  # why it cannot be tested

    def __post_init__(self):
        if self.language == 'python' and self.text.startswith('>>> '):
            self.language = 'doctest'


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
    number, reason = 0, None
    while number < len(lines):
        line = lines[number]
        number += 1
        if OTHER_FORM.match(line):
            raise ValueError(f'{path}:{number}: write this as a code-block')
        if line.strip().startswith('.. contents::'):
            raise ValueError(f'{path}:{number}: the theme shows the contents '
                             f'of a page itself, and an error for this')
        if match := NOT_RUN.match(line):
            end = _indented(lines, number, _indentation(line))
            reason = ' '.join([match[1], *lines[number:end]]).strip()
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
                    reason)
        number, reason = end, None


def _markdown(lines):
    number, reason = 0, None
    while number < len(lines):
        line = lines[number]
        number += 1
        if match := NOT_RUN.match(line):
            reason = match[2]
        elif match := FENCE.match(line):
            end = lines.index('```', number)
            yield Block(match[1] or 'none', '\n'.join(lines[number:end]) +
                        '\n', number + 1, None, reason)
            number, reason = end + 1, None
