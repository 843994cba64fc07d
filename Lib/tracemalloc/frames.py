"""Frames, tracebacks and traces: views on tuples made in C."""

from collections.abc import Sequence
from functools import total_ordering

from tracemalloc.sizes import STOCK, format_size
from tracemalloc.source_lines import getline


def _format_size(size, sign):
    return format_size(size, sign, STOCK)


@total_ordering
class Frame:
    """Frame of a traceback."""
    __module__ = 'tracemalloc'
    __slots__ = ("_frame",)

    def __init__(self, frame):
        # (filename: str, lineno: int), perhaps a FrameInfo.
        self._frame = frame

    @property
    def filename(self):
        return self._frame[0]

    @property
    def lineno(self):
        return self._frame[1]

    @property
    def function(self):
        """Qualified name of the function, or None if it is not known."""
        return getattr(self._frame, 'function', None)

    @property
    def end_lineno(self):
        return getattr(self._frame, 'end_lineno', None)

    @property
    def colno(self):
        """Offset in the line, in bytes of UTF-8, or None."""
        return getattr(self._frame, 'colno', None)

    @property
    def end_colno(self):
        return getattr(self._frame, 'end_colno', None)

    def __eq__(self, other):
        if not isinstance(other, Frame):
            return NotImplemented
        return self._frame == other._frame

    def __lt__(self, other):
        if not isinstance(other, Frame):
            return NotImplemented
        return self._frame < other._frame

    def __hash__(self):
        return hash(self._frame)

    def __str__(self):
        return "%s:%s" % (self.filename, self.lineno)

    def __repr__(self):
        return "<Frame filename=%r lineno=%r>" % (self.filename, self.lineno)


@total_ordering
class Traceback(Sequence):
    """Sequence of Frame instances, the most recent frame last."""
    __module__ = 'tracemalloc'
    __slots__ = ("_frames", '_total_nframe', '_native')

    def __init__(self, frames, total_nframe=None, native=()):
        Sequence.__init__(self)
        # Given as a snapshot has them, the most recent frame first.
        self._frames = tuple(reversed(frames))
        self._total_nframe = total_nframe
        self._native = native

    @property
    def native(self):
        """The C frames that the innermost Python frame had called: a tuple of
        NativeFrame, the most recent last, as the others."""
        from tracemalloc.native import frames_of
        return frames_of(self._native)

    @property
    def total_nframe(self):
        """Frames of the stack before it was cut, or None if not known."""
        return self._total_nframe

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(Frame(frame) for frame in self._frames[index])
        return Frame(self._frames[index])

    def __contains__(self, frame):
        return frame._frame in self._frames

    def __hash__(self):
        return hash(self._frames)

    def __eq__(self, other):
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._frames == other._frames

    def __lt__(self, other):
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._frames < other._frames

    def __str__(self):
        return str(self[0])

    def __repr__(self):
        total = ("" if self._total_nframe is None
                 else f" total_nframe={self._total_nframe}")
        return f"<Traceback {tuple(self)}{total}>"

    def format(self, limit=None, most_recent_first=False):
        """Format the frames as lines of text, with their source lines.

        *limit*: the most recent frames if positive, the oldest if negative.
        """
        frames = self
        if limit is not None:
            frames = self[-limit:] if limit > 0 else self[:limit]
        if most_recent_first:
            frames = reversed(frames)
        lines = []
        for frame in frames:
            lines.append('  File "%s", line %s'
                         % (frame.filename, frame.lineno))
            line = getline(frame.filename, frame.lineno).strip()
            if line:
                lines.append('    %s' % line)
        return lines


class Trace:
    """Trace of a memory block."""
    __module__ = 'tracemalloc'
    __slots__ = ("_trace",)

    def __init__(self, trace):
        # (domain: int, size: int, frames: tuple, total_nframe), and perhaps
        # C frames.
        self._trace = trace

    @property
    def domain(self):
        return self._trace[0]

    @property
    def size(self):
        return self._trace[1]

    @property
    def traceback(self):
        return Traceback(*self._trace[2:])

    def __eq__(self, other):
        if not isinstance(other, Trace):
            return NotImplemented
        return self._trace == other._trace

    def __hash__(self):
        return hash(self._trace)

    def __str__(self):
        return "%s: %s" % (self.traceback, _format_size(self.size, False))

    def __repr__(self):
        return ("<Trace domain=%s size=%s, traceback=%r>"
                % (self.domain, _format_size(self.size, False),
                   self.traceback))
