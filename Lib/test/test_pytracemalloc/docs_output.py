"""Does a program print what the documentation says?

Spaces count as one. `...` stands for anything within a line, and for any lines
where it is alone on one. A date with a time is any other. Numbers are exact,
but for those that the page says to vary: they may differ by a fifth, at least
by one.
"""
import re

NUMBER = re.compile(r'\d[\d,]*(?:\.\d+)?')
TIME = r'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d'
SPECIAL = re.compile(rf'{TIME}|{NUMBER.pattern}|\.\.\.')


def numbers_in(text):
    """The numbers of a text, as they are written."""
    return {match[0] for match in SPECIAL.finditer(text)
            if NUMBER.fullmatch(match[0])}


def matches(expected, found, varying=frozenset()):
    """Tell whether *found* is what *expected* describes; *varying* are the
    numbers that need not be exact."""
    return _match_lines(_lines(expected), _lines(found), varying)


def _lines(text):
    lines = [' '.join(line.split()) for line in text.split('\n')]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def _match_lines(expected, found, varying):
    # reachable: how many lines found can stand for the expected ones so far.
    reachable = {0}
    for line in expected:
        if line == '...':
            reachable = set(range(min(reachable, default=len(found) + 1),
                                  len(found) + 1))
        else:
            reachable = {number + 1 for number in reachable
                         if number < len(found)
                         and _match_line(line, found[number], varying)}
    return len(found) in reachable


def _match_line(expected, found, varying):
    pattern, numbers, end = '', [], 0
    for match in SPECIAL.finditer(expected):
        pattern += re.escape(expected[end:match.start()])
        end = match.end()
        if match[0] == '...':
            pattern += '.*?'
        elif re.fullmatch(TIME, match[0]):
            pattern += TIME
        elif match[0] in varying:
            pattern += f'({NUMBER.pattern})'
            numbers.append(match[0])
        else:
            pattern += re.escape(match[0])
    result = re.fullmatch(pattern + re.escape(expected[end:]), found)
    return result is not None and all(map(_close, numbers, result.groups()))


def _close(expected, found):
    value, other = (float(text.replace(',', '')) for text in (expected, found))
    return abs(value - other) <= max(value / 5, 1)
