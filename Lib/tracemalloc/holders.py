"""Who holds what: what Snapshot.retained(), holders() and why() return."""

from array import array
from collections import namedtuple

from tracemalloc.filters import Filter, divide
from tracemalloc.graph_names import (
    FIXED, Object, Step, name_object, name_step, write_path)
from tracemalloc.modules import module_of
from tracemalloc.places import name_place
from tracemalloc.sizes import format_size

RETAINED_KEYS = ('type', 'lineno', 'type+lineno', 'function', 'filename',
                 'module')

Retained = namedtuple('Retained', 'key count size retained')
TypeCount = namedtuple('TypeCount', 'type count size')


class Holder:
    """A node of the tree of holders: objects that are held in the same way,
    of one type and from one line.

    name: how they are held; what: what they are, in words; type; filename,
    lineno: where they were allocated, or None; count; size: bytes of them and
    of what belongs to them; retained: bytes that would be freed with them;
    repeats: they hold others of their kind, which are counted here;
    children: list of Holder, the one that retains most first.

    count_diff, retained_diff: the change, in the result of compare_holders().
    """
    __module__ = 'tracemalloc'

    def __init__(self, name, what, type=None, filename=None, lineno=None,
                 count=0, size=0, retained=0, repeats=False):
        self.name = name
        self.what = what
        self.type = type
        self.filename = filename
        self.lineno = lineno
        self.count = count
        self.size = size
        self.retained = retained
        self.repeats = repeats
        self.count_diff = self.retained_diff = 0
        self.children = []

    def __repr__(self):
        return (f'<Holder {str(self)!r} count={self.count} size={self.size} '
                f'retained={self.retained}>')

    def __str__(self):
        text = f'{self.name}: {self.what}' if self.name else self.what
        if self.repeats:
            text += ', and so on'
        if self.filename is not None:
            text += f' ({name_place(self.filename, self.lineno)})'
        return text


class RootPath:
    """Paths of one shape from a root to objects that were asked about.

    text: the path as a person would write it; count: objects that it leads to;
    behind: further objects that were asked about, and that are reached only
    through these; size: bytes of all of them; steps: list of (name, what,
    filename, lineno), from the root.
    """
    __module__ = 'tracemalloc'

    def __init__(self, text, count, behind, size, steps):
        self.text = text
        self.count = count
        self.behind = behind
        self.size = size
        self.steps = steps

    def __repr__(self):
        return f'<RootPath {str(self)!r}>'

    def __str__(self):
        behind = f', {self.behind:,} behind' if self.behind else ''
        return f'{self.text} ({self.count:,}{behind})'


class Why:
    """Why objects are alive.

    count, size: the objects; retained: bytes that would be freed with them,
    their own included; types: list of TypeCount; unreached: how many of them
    nothing holds, so that the cyclic collector will free them; blocks,
    block_size: live blocks from that line that belong to no object; paths:
    list of RootPath, the most common shape first; shapes: how many shapes
    there are.
    """
    __module__ = 'tracemalloc'

    def __init__(self, row):
        (self.count, self.size, self.retained, self.unreached, self.blocks,
         self.block_size, self.shapes, types, paths) = row
        self.types = _add_types(types)
        self.paths = [_make_path(*path) for path in paths]

    def __repr__(self):
        return (f'<Why count={self.count} size={self.size} '
                f'retained={self.retained} shapes={self.shapes}>')

    def __str__(self):
        return '\n'.join(self.lines())

    def lines(self):
        """Return the answer as lines of text."""
        lines = []
        if self.count:
            held = self.count - self.unreached
            more = (f', with what only they hold {format_size(self.retained)}'
                    if self.retained > self.size else '')
            lines.append(f'{self._name_types()} ({format_size(self.size)}'
                         f'{more})' + (' are held by:' if held > 1 else
                                       ' is held by:' if held else ''))
        lines += [f'    {path}' for path in self.paths]
        hidden = self.shapes - len(self.paths)
        if hidden > 0:
            shown = sum(path.count + path.behind for path in self.paths)
            plural = 's' if hidden > 1 else ''
            lines.append(f'    {hidden:,} more path{plural} '
                         f'({self.count - self.unreached - shown:,})')
        if self.unreached:
            them = 'them' if self.unreached > 1 else 'it'
            lines.append(f'{self.unreached:,} that nobody holds: the cyclic '
                         f'collector will free {them}')
        if self.blocks:
            plural = 's' if self.blocks > 1 else ''
            lines.append(f'{self.blocks:,} block{plural} '
                         f'({format_size(self.block_size)}) of no known '
                         f'object')
        return lines

    def _name_types(self):
        names = [f'{kind.count:,} {kind.type}' for kind in self.types[:3]]
        rest = sum(kind.count for kind in self.types[3:])
        if rest:
            names.append(f'{rest:,} of other types')
        return ', '.join(names)


def _make_path(count, behind, size, repeats, rows):
    steps = [None if row is None else
             Step(*row[0], row[1], row[2], Object(*row[3])) for row in rows]
    text = write_path(steps, exact=count == 1 and not behind)
    if repeats:
        text += ', and so on'
    shown = []
    for step in steps:
        if step is None:
            shown.append(('...', '', None, None))
            continue
        frame = step.object.frame
        shown.append((name_step(step.how, step.name),
                      name_object(step.object),
                      *(frame if frame else (None, None))))
    return RootPath(text, count, behind, size, shown)


def _add_types(rows):
    sums = {}
    for row, count, size in rows:
        name = Object(*row).type or name_object(Object(*row))
        before = sums.get(name, TypeCount(name, 0, 0))
        sums[name] = TypeCount(name, before.count + count, before.size + size)
    return sorted(sums.values(), key=lambda kind: (-kind.size, -kind.count,
                                                   kind.type))


# --- Questions


def retained(traces, key_type, program=None):
    if key_type not in RETAINED_KEYS:
        raise ValueError("unknown key_type: %r: use one of %s"
                         % (key_type, ", ".join(RETAINED_KEYS)))
    numbers = (_number_modules(traces, program) if key_type == 'module'
               else None)
    found = [Retained(_key(key_type, Object(*row), program), count, size, held)
             for row, count, size, held in traces._retained(
                 'filename' if key_type == 'module' else key_type, numbers)]
    return sorted(found, key=lambda group: (-group.retained, -group.size,
                                            str(group.key)))


def _key(key_type, made, program):
    frame = made.frame
    if key_type == 'type':
        return made.type or name_object(made)
    if frame is None:             # only its buffers are traced
        place = None
    elif key_type in ('lineno', 'type+lineno'):
        place = frame
    elif key_type == 'function':
        place = frame.filename, frame.function, frame.first_lineno or 0
    else:
        place = (frame.filename if key_type == 'filename'
                 else module_of(frame.filename, program))
    return ((made.type or name_object(made), place)
            if key_type == 'type+lineno' else place)


def _number_modules(traces, program):
    """Return a number for each file name, as bytes; files of one module have
    the same number."""
    numbers = {}
    return array('I', [
        0 if name is None else numbers.setdefault(
            module_of(name, program), len(numbers))
        for name in traces._filenames()]).tobytes()


def holders(traces, least=None):
    rows, (count, size, uncovered) = traces._holders(least)
    nodes = []
    for parent, step, row, module, repeats, *sums in rows:
        node = _make_holder(step, Object(*row), module, repeats, *sums)
        if parent >= 0:
            nodes[parent].children.append(node)
        nodes.append(node)
    root = nodes[0]
    if count:
        root.children.append(Holder(
            '', 'held by nobody, the cyclic collector will free it',
            count=count, size=size, retained=size))
    if uncovered:
        nodes.append(_make_uncovered(uncovered))
        root.children.append(nodes[-1])
        root.retained += nodes[-1].retained
    root.retained += size
    for node in nodes:
        node.children.sort(key=lambda child: -child.retained)
    return root


def _make_holder(step, made, module, repeats, count, size, held):
    how, name = step
    kind, what, frame = made.type, name_object(made), made.frame
    if module is not None:
        how, what, kind, frame = FIXED, f'module {module}', 'module', None
    elif made.number == 0:
        what = 'everything'
    if how == FIXED or made.number < 4:
        frame = None
    return Holder(name_step(how, name), what, kind,
                  *(frame if frame else (None, None)), count, size, held,
                  bool(repeats))


def compare_holders(old, new):
    """Compare with an older tree.  Holders are the same if they are held in
    the same way and have the same type and line.  Return a tree, the largest
    change first, in which holders that are gone retain nothing."""
    root = _make_difference(old, new)
    stack = [(old, new, root)]
    while stack:
        before, after, made = stack.pop()
        olds = _by_name(before)
        for name, child in _by_name(after).items():
            made.children.append(_make_difference(olds.get(name), child))
            stack.append((olds.pop(name, None), child, made.children[-1]))
        for child in olds.values():
            made.children.append(_make_difference(child, None))
            stack.append((child, None, made.children[-1]))
        made.children.sort(key=lambda child: -abs(child.retained_diff))
    return root


def _by_name(holder):
    if holder is None:
        return {}
    names, numbers = {}, {}
    for child in holder.children:
        kind = child.type
        if kind in (None, 'module'):
            # Its own name; the line that a frame is at changes.
            kind = child.what.partition(' (')[0]
        key = child.name, kind, child.filename, child.lineno
        # Of several classes of one name, the largest is the first.
        number = numbers[key] = numbers.get(key, 0) + 1
        names[*key, number] = child
    return names


def _make_difference(old, new):
    known = new or old
    made = Holder(known.name, known.what, known.type, known.filename,
                  known.lineno, repeats=known.repeats)
    for holder, sign in (new, 1), (old, -1):
        if holder is not None:
            made.count_diff += sign * holder.count
            made.retained_diff += sign * holder.retained
    if new is not None:
        made.count, made.size = new.count, new.size
        made.retained = new.retained
    return made


def _make_uncovered(rows):
    """Return traced blocks that belong to no object which is reached, by
    line."""
    made = Holder('', 'blocks of no known object')
    for frame, count, size in rows:
        made.count += count
        made.retained += size
        made.children.append(Holder(
            '', 'blocks', None, frame.filename, frame.lineno, count, size,
            size))
    return made


def why(traces, site, type, address, most, all_frames):
    given = [what for what in (site, type, address) if what is not None]
    if len(given) != 1:
        raise ValueError("give one of site, type and address")
    if not isinstance(most, int) or most < 1:
        raise ValueError("most must be an integer of at least 1, not %r"
                         % (most,))
    if site is not None:
        what = _find_lines(traces, site)
    elif type is not None:
        what = _find_types(traces, type)
    else:
        what = address
        if not isinstance(address, int) or not 0 < address < 1 << 64:
            raise ValueError("address must be a positive integer, not %r"
                             % (address,))
    return Why(traces._why(what, all_frames, min(most, 1000)))


def _find_lines(traces, site):
    if isinstance(site, str):
        pattern, colon, line = site.rpartition(':')
        if not colon or not (line.isascii() and line.isdigit()):
            raise ValueError("site must be FILE:LINE, not %r" % site)
        site = pattern, int(line)
    pattern, line = site
    return divide(traces, [Filter(True, pattern, line)])[1]


def _find_types(traces, name):
    types = traces._graph_types()
    found = [number for number, known in types if known == name]
    return found or [number for number, known in types
                     if known is not None
                     and known.rpartition('.')[2] == name]
