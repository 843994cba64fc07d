"""How groups of memory blocks look in a report."""

from tracemalloc.printable import printable
from tracemalloc.stats_diff import add_up
from tracemalloctext.text import format_size, shorten_filename


class Look:
    """What is shown of a group, and how.

    *size*, *count* and *average* say which figures are shown; *palette* has
    the colours; *filename_parts* is how many parts of a filename are kept.
    """

    def __init__(self, palette, filename_parts, size, count, average):
        self.palette = palette
        self.filename_parts = filename_parts
        self.size = size or not (count or average)
        self.count = count
        self.average = average

    def top_lines(self, diff, count):
        """Yield the lines of the top *count* groups of a StatsDiff, and one
        for all others.  The top is ranked by difference, then by size."""
        group_by = diff.new_stats.group_by
        compared = diff.old_stats is not None
        top = diff.top(count)
        for rank, row in enumerate(top, 1):
            yield "#%s: %s: %s" % (
                rank, self.palette.name(self.name(group_by, row[4])),
                self.figures(row, compared, single=group_by == "address"))
        left = len(diff) - len(top)
        if left:
            rest = [every - shown for every, shown
                    in zip(diff.total(), add_up(top))]
            yield "%s more: %s" % (left, self.figures(rest, compared))

    def name(self, group_by, key):
        """Name a group by its key."""
        if group_by == "filename":
            name = self._shorten(key)
        elif group_by == "line":
            name = self._place(*key)
        elif group_by == "address":
            name = "memory block 0x%x" % key
        elif group_by == "function":
            filename, function, lineno = key
            name = "%s (%s)" % (function or "???",
                                self._place(filename, lineno))
        elif group_by == "type+line":
            type_name, filename, lineno = key
            name = "%s at %s" % (type_name, self._place(filename, lineno))
        elif group_by == "traceback":
            recent = key[-1]
            name = "%s (%s frame%s)" % (
                self._place(recent.filename, recent.lineno), len(key),
                "" if len(key) == 1 else "s")
        else:
            name = str(key)
        return printable(name)

    def _shorten(self, filename):
        return shorten_filename(filename, self.filename_parts)

    def _place(self, filename, lineno):
        return "%s:%s" % (self._shorten(filename), lineno or "?")

    def figures(self, row, compared, single=False):
        """Format a row that starts with size_diff, size, count_diff, count.

        A *single* block has neither count nor average.
        """
        size_diff, size, count_diff, count = row[:4]
        parts = []
        if self.size:
            parts.append(self.labelled_size(size,
                                            size_diff if compared else None))
        if self.count and not single:
            text = "count=%s" % count
            if compared:
                text += " (%+d)" % count_diff
            parts.append(text)
        if self.average and not single and count:
            parts.append("average=" + format_size(size // count))
        return ", ".join(parts)

    def labelled_size(self, size, difference=None):
        """Format a size; where it is the only figure it needs no label."""
        text = self.palette.size(format_size(size))
        if difference is not None:
            text += " (%s)" % format_size(difference, True)
        return "size=" + text if self.count or self.average else text
