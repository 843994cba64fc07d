"""Does a program print what the documentation says?

Spaces count as one. `...` stands for anything within a line, and for any lines
where it is alone on one. Numbers may differ by a fifth, since sizes differ a
little between machines, but not the line number after a colon or after the
word "line", nor a whole number below 100 without a unit. A date with a time is
any other.
"""
import re

NUMBER = re.compile(r'\d[\d,]*(?:\.\d+)?')
TIME = r'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d'
SPECIAL = re.compile(rf'{TIME}|{NUMBER.pattern}|\.\.\.')
UNIT = re.compile(r' ?([KMG]iB|ms|s|%)(?!\w)')
EXACT_AFTER = re.compile(r'(?::|\bline )$')


def matches(expected, found):
    """Tell whether *found* is what *expected* describes."""
    return _match_lines(_lines(expected), _lines(found))


def _lines(text):
    lines = [' '.join(line.split()) for line in text.split('\n')]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def _match_lines(expected, found):
    # reachable: how many lines found can stand for the expected ones so far.
    reachable = {0}
    for line in expected:
        if line == '...':
            reachable = set(range(min(reachable, default=len(found) + 1),
                                  len(found) + 1))
        else:
            reachable = {number + 1 for number in reachable
                         if number < len(found)
                         and _match_line(line, found[number])}
    return len(found) in reachable


def _match_line(expected, found):
    pattern, numbers, end = '', [], 0
    for match in SPECIAL.finditer(expected):
        before = expected[:match.start()]
        pattern += re.escape(expected[end:match.start()])
        end = match.end()
        if match[0] == '...':
            pattern += '.*?'
        elif re.fullmatch(TIME, match[0]):
            pattern += TIME
        elif EXACT_AFTER.search(before):
            pattern += re.escape(match[0])
        else:
            pattern += f'({NUMBER.pattern})'
            measured = UNIT.match(expected, match.end())
            numbers.append((match[0], bool(measured)))
    result = re.fullmatch(pattern + re.escape(expected[end:]), found)
    return result is not None and all(
        map(_close, numbers, result.groups()))


def _close(number, found):
    expected, measured = number
    value, other = (float(text.replace(',', '')) for text in (expected, found))
    if value < 100 and '.' not in expected and not measured:
        return value == other
    return abs(value - other) <= max(value / 5, 1 if measured else 0.2)
