"""Words of the reports: sizes, names and colours."""

import os

from tracemalloc import sizes
from tracemalloc.printable import encodable

_BOLD = "\x1b[1m%s\x1b[0m"
_YELLOW = "\x1b[1;33m%s\x1b[0m"
_CYAN = "\x1b[36m%s\x1b[0m"


def format_size(size, sign=False):
    """Format bytes, rounded towards zero, in the largest unit of which there
    are at least five: '5119 B', '5 KiB'."""
    return sizes.format_size(size, sign, sizes.TEXT)


def format_value(value, format, sign=False):
    """Format a value as 'int', 'percent' (1.0 is 100 %) or 'size'."""
    if format == "size":
        return format_size(value, sign)
    if format == "percent":
        return ("%+.1f%%" if sign else "%.1f%%") % (value * 100)
    return ("%+d" if sign else "%d") % value


def format_date(timestamp):
    if timestamp is None:
        return "unknown date"
    return timestamp.isoformat(" ", "seconds")


def shorten_filename(filename, parts):
    """Keep the last *parts* parts of a filename; '...' stands for more."""
    if filename is None or filename == "<unknown>":
        return "???"
    kept = filename.split(os.sep)
    if len(kept) > parts:
        kept = ["...", *kept[-parts:]]
    return os.sep.join(kept)


def write_line(file, text=""):
    """Write a line; what the file's encoding lacks is escaped."""
    encoding = getattr(file, "encoding", None)
    if encoding:
        text = encodable(text, encoding)
    file.write(text + "\n")


def wants_color(file, color=None):
    """Decide on colours: as asked for, or else only on a terminal that has
    them, unless NO_COLOR is set in the environment."""
    if color is not None:
        return bool(color)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    isatty = getattr(file, "isatty", None)
    return isatty is not None and isatty()


class Palette:
    """The colours of a report, or none."""

    def __init__(self, colored):
        self.colored = colored

    def title(self, text):
        return _BOLD % text if self.colored else text

    def size(self, text):
        return _YELLOW % text if self.colored else text

    def name(self, text):
        return _CYAN % text if self.colored else text
