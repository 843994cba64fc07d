"""A named figure of a snapshot."""

import math

FORMATS = ("int", "percent", "size")


class Metric:
    """Name, value and format ('int', 'percent' or 'size') of a metric."""

    __slots__ = ("name", "value", "format")

    def __init__(self, name, value, format):
        if not isinstance(name, str):
            raise TypeError("the name of a metric must be a str, not %s"
                            % type(name).__name__)
        if not isinstance(value, (int, float)):
            raise TypeError("the value of a metric must be a number, not %s"
                            % type(value).__name__)
        if not math.isfinite(value):
            raise ValueError("the value of a metric must be finite, not %r"
                             % value)
        if format not in FORMATS:
            raise ValueError("unknown metric format %r: use one of %s"
                             % (format, ", ".join(FORMATS)))
        self.name = name
        self.value = value
        self.format = format

    def __eq__(self, other):
        if not isinstance(other, Metric):
            return NotImplemented
        return self.name == other.name and self.value == other.value

    def __hash__(self):
        return hash((self.name, self.value))

    def __repr__(self):
        return "<Metric name=%r value=%r format=%r>" % (
            self.name, self.value, self.format)
