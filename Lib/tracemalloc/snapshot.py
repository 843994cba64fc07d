"""Snapshots of traced memory."""

from collections import namedtuple
from operator import attrgetter
import os
import time

from _tracemalloc import _hidden
from tracemalloc.filters import divide, filter_traces
from tracemalloc.frames import Traceback
from tracemalloc.legacy import LegacyMethods
from tracemalloc.modules import module_of
from tracemalloc.statistic import (
    KEYS, MEASURES, BlockStatistics, Statistic, StatisticDiff, changed_most,
    compare, statistics)

_files = _traces = _holders = None


@_hidden
def load_files():
    """Import what writes and reads files.  This is called early, to avoid the
    import while tracing and while the interpreter ends."""
    global _files
    if _files is None:
        from tracemalloc import files as _files
        load_traces()
    return _files


@_hidden
def load_traces():
    """Import what snapshots consist of, as load_files() does."""
    global _traces
    if _traces is None:
        from tracemalloc import traces as _traces
    return _traces


@_hidden
def load_holders():
    """Import what says who holds what, when it is first asked for."""
    global _holders
    if _holders is None:
        from tracemalloc import holders as _holders
    return _holders


PinnedArena = namedtuple('PinnedArena',
                         'address size used blocks traced_blocks')
PinnedBlock = namedtuple('PinnedBlock', 'address type size traceback')


class CallTree:
    """The call tree of a snapshot, made for reports.

    nodes: list of (parent index or -1, filename, lineno, function,
    first_lineno, size, count, total_size, total_count, peak_size, peak_count,
    garbage_size, garbage_count): values of the node itself, callers before
    what they call.
    """
    __module__ = 'tracemalloc'

    def __init__(self, traces):
        self.nodes, self._types, self._stacks = traces._call_tree()

    def by_type(self):
        """Live blocks by type: list of (node index, type, size, count)."""
        return self._types

    def by_native(self):
        """Live native memory by its C frames: list of (node index, tuple of
        NativeFrame, the most recent last, size, count)."""
        frames_of = load_files().views.native.frames_of
        return [(node, frames_of(stack), size, count)
                for node, stack, size, count in self._stacks]


def cut_to_lowest(snapshots):
    """Return the snapshots with the frames that all of them have: cut to the
    lowest limit.  A program may have given one that is no number."""
    limits = [snapshot.traceback_limit for snapshot in snapshots]
    if not all(isinstance(limit, int) for limit in limits):
        return snapshots
    return [snapshot._cut(min(limits)) for snapshot in snapshots]


class Snapshot(LegacyMethods):
    """Snapshot of the memory blocks allocated by Python.

    Made by take_snapshot(); *traces* may also be a list of raw traces
    (domain, size, ((filename, lineno), ...), total_nframe).
    """
    __module__ = 'tracemalloc'

    def __init__(self, traces, traceback_limit):
        # No inline values in the object: releasing them would allocate.
        self.__dict__ = {}
        self.traces = load_traces()._Traces(traces)
        self.traceback_limit = traceback_limit
        self.timestamp = time.time()
        self.pid = os.getpid()
        self.metadata = {}
        self.program = None
        info = self.traces._traces._info or {}
        self.traced_memory = info.get('traced_memory', (0, 0))
        self.freelists = info.get('freelists', {})
        self._growth = info.get('growth')
        self._peaks = info.get('peaks') or []
        self._history = info.get('history', b'')
        self._rss = None
        for loss in ('untraced', 'folded', 'pruned'):
            if info.get(loss):
                self.metadata[loss] = info[loss]
        native, native_peak = info.get('native_memory', (0, 0))
        if native_peak:
            self.metadata['native_memory'] = native
            self.metadata['native_peak'] = native_peak

    @classmethod
    def _take(cls, traces, is_tracing, get_traces, get_traceback_limit,
              references=False, keys=False, pause=None):
        """take_snapshot(), by the functions that the caller passes: the
        standard library's tests replace them."""
        if not is_tracing():
            raise RuntimeError("the tracemalloc module must be tracing memory "
                               "allocations to take a snapshot")
        if references and not traces:
            raise ValueError("references need traces: leave out traces=False")
        child = 8 if pause is None else 4 * (not pause)
        if (keys or child == 4) and not references:
            raise ValueError("keys and pause are about references: add "
                             "references=True")
        # The resident memory is recorded first, so that it does not include
        # the snapshot.  It takes longer than the sums do.
        rss = load_files().resident.record() if traces else None
        # Without an argument where none is needed, as stock does.
        if references:
            taken = get_traces(True, 1 | bool(keys) << 1 | child)
        else:
            taken = get_traces() if traces else get_traces(False)
        snapshot = cls(taken, get_traceback_limit())
        snapshot.program = load_files().views.describe_process()
        snapshot._rss = rss
        load_files().unseen.record(snapshot)
        return snapshot

    def __setstate__(self, state):
        # A pickle of the standard library knows the first two attributes.
        self.timestamp = None
        self.pid = None
        self.metadata = {}
        self.program = None
        self.traced_memory = (0, 0)
        self.freelists = {}
        self._growth = None
        self._peaks = []
        self._history = b''
        self._rss = None
        self.__dict__.update(state)

    def __getstate__(self):
        state = self.__dict__ | {'timestamp': self.timestamp}
        # No other part of the snapshot has them.
        for name in ('_growth', '_peaks', '_history', '_rss'):
            del state[name]
        return state

    @property
    @_hidden
    def timestamp(self):
        """When the snapshot was taken: a datetime, or None."""
        # In seconds until it is asked for: few do.
        value = self.__dict__['timestamp']
        if isinstance(value, float):
            datetime = load_files().datetime
            value = self.timestamp = datetime.fromtimestamp(value)
        return value

    @timestamp.setter
    def timestamp(self, value):
        self.__dict__['timestamp'] = value

    @property
    def has_references(self):
        """True if the snapshot was taken with references=True."""
        return self.traces._traces._has_references

    def _read_references(self):
        """Look at the references of a file: ValueError, if they are wrong."""
        self.traces._traces._read_references()

    @property
    @_hidden
    def growth(self):
        """How the lines that grew most have grown: [moments, sites]."""
        if isinstance(self._growth, bytes):
            # Packed until it is asked for, to take little memory.
            return load_traces().unpack_growth(self._growth)
        return self._growth

    @property
    @_hidden
    def history(self):
        """Memory over time: a list of Note, see get_history()."""
        return load_files().unpack_history(self._history)

    @property
    @_hidden
    def rss(self):
        """Who owned the resident memory: a ResidentMemory, or None if it is
        not known, as in a snapshot without traces."""
        return (None if self._rss is None else
                load_files().resident.ResidentMemory(**self._rss))

    def _with_traces(self, traces):
        other = Snapshot.__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        other.metadata = dict(self.metadata)
        other.traces = load_traces()._Traces(traces)
        return other

    def _cut(self, limit):
        """Return a snapshot with no more than *limit* frames a traceback."""
        if not 0 < limit < min(self.traceback_limit, 1 << 32):
            return self
        other = self._with_traces(self.traces._traces._cut(limit))
        other.traceback_limit = limit
        return other

    def _replace_with(self, other):
        """Take over the traces of another snapshot."""
        self.traces = other.traces

    @_hidden
    def dump(self, filename, format='native'):
        """Write the snapshot into a file, whole or not at all.

        *format* 'pickle': one that the standard library can read.
        """
        load_files().dump(self, filename, format)

    @staticmethod
    @_hidden
    def load(filename):
        """Load a snapshot from a file of any format: see dump().

        Nothing in the file is executed.  Raise ValueError if it is damaged.
        """
        return load_files().load(filename, Snapshot)

    @property
    @_hidden
    def peak(self):
        """The call sites when traced memory was at its peak.

        Return a snapshot without traces, whose sizes and counts are those at
        the peak.
        """
        peak = self._with_traces(self.traces._traces._peak())
        peak._peaks = self._peaks[:1]
        return peak

    @property
    @_hidden
    def peaks(self):
        """The highest moments of the run: a list of snapshots like peak, with
        the time and the size of each moment.

        The peak comes first, then up to three of the next highest moments,
        at which other lines held the memory.
        """
        peaks = []
        for number, (timestamp, size) in enumerate(self._peaks):
            peak = self.peak if number == 0 else self._with_traces(
                self.traces._traces._next_peak(number - 1, False))
            peak.timestamp = timestamp
            peak.traced_memory = size, size
            peak._peaks = [(timestamp, size)]
            peaks.append(peak)
        return peaks

    def _more_than_at_peak(self, most=-1):
        """Yield a list of StatisticDiff for each of the next highest moments:
        which lines held more than at the peak, the largest first.

        *most*: only this many of the largest lines are looked at.
        """
        for number in range(len(self._peaks) - 1):
            then = self._with_traces(
                self.traces._traces._next_peak(number, True))
            more = [
                StatisticDiff(line.traceback, line.size,
                              line.size - line.peak_size, line.count,
                              line.count - line.peak_count)
                for line in then._largest('lineno', most=most)[1]
                if line.size > line.peak_size]
            more.sort(key=attrgetter('size_diff'), reverse=True)
            yield more

    @_hidden
    def filter_traces(self, filters):
        """Make a snapshot of the traces that pass the filters.

        With an empty list, a copy.
        """
        return self._with_traces(filter_traces(self.traces._traces, filters))

    def _check(self, key_type, cumulative, order):
        if key_type not in (*KEYS,):       # it may have no hash
            raise ValueError("unknown key_type: %r" % (key_type,))
        if cumulative and not KEYS[key_type].callers:
            raise ValueError("cumulative mode cannot by used "
                             "with key type %r" % key_type)
        if order not in MEASURES:
            raise ValueError("unknown order: %r: use one of %s"
                             % (order, ", ".join(MEASURES)))
        if KEYS[key_type].single:
            if not self.traces._traces._has_blocks:
                raise ValueError("the snapshot has no traces: key type %r "
                                 "needs take_snapshot(traces=True)" % key_type)
            if order not in ('size', 'count'):
                raise ValueError("order %r is not known for key type %r: use "
                                 "'size' or 'count'" % (order, key_type))

    @_hidden
    def fold_imports(self):
        """Make a snapshot without frames of the import system.

        Their blocks are charged to the line that imports.  Blocks without such
        a line, and those that the interpreter allocates before and after the
        program, are at one place, the file '<interpreter and imports>'.
        """
        views = load_files().views
        return self._fold(views.Files(self.program).import_kind,
                          views.IMPORTS, origins=False)

    @_hidden
    def my_code(self, patterns=()):
        """Make a snapshot that charges each block to the innermost line of the
        program: outside of the standard library and of site-packages.

        *patterns*: file names (fnmatch) that are the program's or, after '!',
        are not.  Blocks without such a line are at one place, the file
        '<no line of my code>'.  Statistic.origin is where they were allocated.
        """
        views = load_files().views
        return self._fold(views.Files(self.program, patterns).code_kind,
                          views.NOT_MINE, origins=True)

    def _fold(self, kind, rest, origins):
        views = load_files().views
        return self._with_traces(views.fold(self.traces._traces, kind, rest,
                                            origins))

    def _reached(self, filters):
        """Make a snapshot of those blocks that statistics(cumulative=True)
        with these filters counts in at least one group."""
        blocks, lines = divide(self.traces._traces, filters)
        traces = filter_traces(self.traces._traces, blocks)
        return self._with_traces(traces if lines is None
                                 else traces._select_lines(lines))

    def _rows(self, key_type, cumulative, order='size', filters=(), most=-1,
              by_origin=False):
        """Return (number of groups, rows of the *most* largest)."""
        self._check(key_type, cumulative, order)
        if key_type == 'native':
            rows = load_files().views.native.group_by_function(
                self._c_stacks(order, filters)[1])
            return len(rows), rows
        traces = self.traces._traces
        lines = None
        if cumulative:
            filters, lines = divide(traces, filters)
        if filters:
            traces = filter_traces(traces, filters)
        if key_type == 'module':
            names = [None if name is None
                     else module_of(name, self.program)
                     for name in traces._filenames()]
            traces = traces._rename(names)
            key_type = 'filename'
        elif key_type == 'task':
            traces = load_files().views.by_task(traces)
            key_type = 'function'
        return traces._group(key_type, bool(cumulative),
                             MEASURES.index(order), lines, most, by_origin)

    def _c_stacks(self, order='size', filters=(), most=-1):
        """Return (number of C stacks, rows of the *most* largest), without a
        look at names."""
        self._check('native', False, order)
        traces = self.traces._traces
        if filters:
            traces = filter_traces(traces, filters)
        return traces._group('native', False, MEASURES.index(order), None,
                             most)

    @_hidden
    def statistics(self, key_type, cumulative=False, order='size',
                   filters=()):
        """Group the blocks; return a list of Statistic, largest first.

        By address, return a sequence that makes each when it is accessed.

        *key_type*: 'filename', 'lineno', 'function', 'module', 'task',
        'traceback', 'type', 'type+lineno', 'domain', 'native' or 'address'.
        *cumulative*: count a block once in each group of its traceback.
        *order*: an attribute of Statistic; groups for which its count is zero
        are left out.

        *filters*: as in filter_traces().  But with *cumulative*, a Filter of
        the most recent frame keeps or leaves out lines instead of blocks: a
        block is charged to each frame of its traceback that passes.
        """
        return self._largest(key_type, cumulative, order, filters)[1]

    def _largest(self, key_type, cumulative=False, order='size', filters=(),
                 most=-1):
        """Return (number of groups, the *most* largest of statistics())."""
        if key_type == 'address':
            self._check(key_type, cumulative, order)
            stats = BlockStatistics(filter_traces(self.traces._traces,
                                                  filters))
            return len(stats), stats if most < 0 else stats[:most]
        number, rows = self._rows(key_type, cumulative, order, filters, most)
        stats = statistics(key_type, rows)
        if key_type != 'traceback':       # these are sorted already
            stats.sort(reverse=True, key=Statistic._sort_key)
            if order != 'size':
                stats.sort(reverse=True, key=attrgetter(order))
        return number, stats if most < 0 else stats[:most]

    @_hidden
    def compare_to(self, old_snapshot, key_type, cumulative=False):
        """Compare with an older snapshot; return a list of StatisticDiff."""
        return self._compare_to(old_snapshot, key_type, cumulative, 'size')

    def _compare_to(self, old_snapshot, key_type, cumulative, order,
                    filters=()):
        """compare_to() of another size: *order* and *filters* as in
        statistics()."""
        snapshots = cut_to_lowest([old_snapshot, self])
        arguments = key_type, cumulative, order, filters
        old, new = [snapshot._rows(*arguments)[1] for snapshot in snapshots]
        origins = {}
        if [row for row in (*old, *new) if row[-1] is not None]:
            origins = changed_most(order, *[
                snapshot._rows(*arguments, by_origin=True)[1]
                for snapshot in snapshots])
        return compare(key_type, old, new, order, origins)

    @_hidden
    def call_tree(self):
        """Return the CallTree."""
        return CallTree(self.traces._traces)

    @_hidden
    def pinned_arenas(self, max_occupancy=0.1):
        """List the arenas of the allocator that are kept by few blocks.

        An arena of which at most the part *max_occupancy* is used is a
        PinnedArena(address, size, used, blocks, traced_blocks); traced_blocks
        is a list of PinnedBlock(address, type, size, traceback).
        """
        return [
            PinnedArena(address, size, used, count, [
                PinnedBlock(block, type_name, block_size, Traceback(frames))
                for block, type_name, block_size, frames in blocks])
            for address, size, used, count, blocks
            in self.traces._traces._pinned_arenas(max_occupancy)]

    @property
    @_hidden
    def arena_use(self):
        """Return who keeps the arenas of the allocator: an ArenaUse."""
        return load_files().resident.arena_use(self)

    @_hidden
    def retained(self, key_type):
        """Say what groups of objects retain: what would be freed with them.

        Return a list of Retained(key, count, size, retained), the one that
        retains most first.  *key_type*: 'type', 'lineno', 'type+lineno',
        'function', 'filename' or 'module'.
        """
        return load_holders().retained(self.traces._traces, key_type,
                                       self.program)

    @_hidden
    def holders(self, least=None):
        """Return the tree of holders, a Holder.

        *least*: leave out what retains fewer bytes; None: less than a
        thousandth of all.
        """
        return load_holders().holders(self.traces._traces, least)

    @_hidden
    def compare_holders(self, old_snapshot, least=None):
        """Compare the tree of holders with that of an older snapshot; return
        a Holder, whose children have the largest change first.

        *least*: leave out what retains fewer bytes; None: less than a hundred
        thousandth of all.
        """
        if least is None:
            least = self.traced_memory[0] // 100_000 + 1
        return load_holders().compare_holders(old_snapshot.holders(least),
                                              self.holders(least))

    @_hidden
    def why(self, *, site=None, type=None, address=None, most=3,
            all_frames=False):
        """Say why objects are alive; return a Why.

        Choose the objects by one argument: *site*, 'FILE:LINE' or (file, line)
        of their allocation; *type*, the name of a type with or without its
        module; or *address*.  *most*: how many shapes of paths are listed.
        *all_frames*: the line may be any line of the traceback.
        """
        return load_holders().why(self.traces._traces, site, type, address,
                                  most, all_frames)

    @_hidden
    def _write_heapsnapshot(self, write):
        """Call *write* with the pieces of a heap snapshot of V8's."""
        self.traces._traces._write_heapsnapshot(write)
