"""The cells of a notebook, and how files are named there.

IPython compiles each cell under the name of a file that nobody knows, such as
/tmp/ipykernel_4242/1234567.py.  Reports name it as IPython's tracebacks do:
In[5] is the cell whose number was 5 when it ran last.
"""

from pytracemalloc.sources import short_names
from tracemalloc.views import Files


class Cells:
    def __init__(self, shell):
        self._compiler = shell.compile

    def label(self, filename):
        """Return 'In[5]', or None for a file that is no cell."""
        named = self._compiler.format_code_name(filename)
        return None if named is None else named[1]

    def caller(self, frame):
        """Return (file, lineno) of the nearest caller that is in a cell;
        (None, 1) if there is none."""
        while frame is not None:
            filename = frame.f_code.co_filename
            if self.label(filename) is not None:
                return filename, frame.f_lineno
            frame = frame.f_back
        return None, 1

    def rename(self, snapshot):
        """Return the sums of a snapshot with the labels of cells."""
        traces = snapshot.traces._traces
        return snapshot._with_traces(traces._rename(
            [name and (self.label(name) or name)
             for name in traces._filenames()]))

    def say(self, text, snapshot):
        """Return a text on a snapshot with the labels of cells."""
        for name in snapshot.traces._traces._filenames():
            if name and (label := self.label(name)):
                text = text.replace(name, label)
        return text

    def name(self, text, stat, program):
        """Return the name of a group with labels, and short names of files.

        *program*: that of the snapshot.
        """
        frames = [*stat.traceback, *([stat.origin] if stat.origin else [])]
        names = [frame.filename for frame in frames]
        for name, short in zip(names, short_names(names, Files(program))):
            text = text.replace(name, self.label(name) or short)
        # Nor is a cell a module.
        return text.replace(' in <module>', '')
