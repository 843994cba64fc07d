"""Command lines: what several tools have in common."""

import argparse
import os
import pathlib


def make_parser(prog, description):
    """Return a parser that keeps the lines of its description."""
    return argparse.ArgumentParser(
        prog=prog, description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)


def interpreter(text):
    """Return the path of an interpreter, or of the one a directory has."""
    path = pathlib.Path(text)
    if path.is_dir():
        path /= 'python'
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(
            f'no interpreter at {path}; name one, or a build directory')
    return str(path.absolute())


def positive(kind):
    """Return what converts text to a *kind* (int, float) above 0."""
    def convert(text):
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value
    convert.__name__ = f'positive {kind.__name__}'
    return convert
