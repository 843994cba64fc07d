"""Types and help texts of arguments that several commands take."""

import argparse

MY_CODE_HELP = ('charge each block to the innermost line outside of the '
                'standard library and site-packages')
MINE_HELP = ('--my-code, with files that match as my code, too, or after a ! '
             'not; may be repeated')


def positive(text):
    """Return an integer of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(
            f'{text!r} must be a positive integer')
    return int(text)


def c_frames(text):
    """Return a number of C frames that can be recorded."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(
            f'{text!r} must be an integer from 1 to 100')
    return int(text)


def place(text):
    """Return (pattern, line or None) of FILENAME[:LINENO]."""
    pattern, colon, line = text.rpartition(':')
    if not colon:
        pattern, line = text, None
    elif line.isascii() and line.isdigit() and int(line):
        line = int(line)
    else:
        raise argparse.ArgumentTypeError(
            f'bad filter {text!r}: give FILENAME or FILENAME:LINENO')
    if not pattern:
        raise argparse.ArgumentTypeError(
            f'bad filter {text!r}: the filename is empty')
    return pattern, line
