"""Task that displays the top of allocated memory blocks."""

from tracemalloc.task import Task
from tracemalloctext.display_top import DisplayTop


class DisplayTopTask(Task):
    """Task taking temporary snapshots and displaying their top."""

    def __init__(self, count=10, group_by="line", cumulative=False, file=None,
                 callback=None):
        super().__init__(self.display)
        self.display_top = DisplayTop()
        self.count = count
        self.group_by = group_by
        self.cumulative = cumulative
        self.file = file
        self.callback = callback

    def display(self):
        """Take a snapshot and display its top; return the snapshot."""
        return self.display_top.display(self.count, self.group_by,
                                        self.cumulative, self.file,
                                        self.callback)
