"""How a person would write who holds what: `shop.CATALOGUE.listeners[...]`.

What C says of a reference and of an object comes as tuples, see
Modules/_snapshot/graph_rows.h.
"""

from collections import namedtuple

# Kinds of objects, and of references: as in pycore_tracer_graph.h and in
# Modules/_snapshot/graph.h.
(PLAIN, DICT, NAMESPACE, SEQUENCE, SET, CELL, MODULE, TYPE, FUNCTION, METHOD,
 CODE, FRAME, THREAD, STATE) = range(14)
(NAME, KEY, ITEM, VALUE, KEY_ITSELF, ELEMENT, CONTENT, STACK, OTHER, OF_TYPE,
 FIXED, IMMORTAL, C_CODE, SHARED) = range(14)

_FIXED = {0: 'everything', 1: 'interpreter', 2: 'static types', 3: 'threads'}
_FRAMES = {'generator': 'generator', 'coroutine': 'coroutine',
           'async_generator': 'asynchronous generator'}

Object = namedtuple('Object', 'kind type name frame size retained address '
                    'number where')
Step = namedtuple('Step', 'how name index key object')


def name_object(made):
    """Say what an object is."""
    if made.number in _FIXED:
        return _FIXED[made.number]
    if made.kind == FRAME:
        name = made.name or '?'
        if made.type is None:
            return name_frame(made)
        return f'{_FRAMES.get(made.type, made.type)} {name}'
    if made.kind == THREAD:
        return f'thread {made.name}' if made.name else 'thread'
    if made.name is None:
        return made.type or 'object'
    return {MODULE: 'module', TYPE: 'class', FUNCTION: 'function',
            METHOD: 'bound method', CODE: 'code of'}[made.kind] + (
                f' {made.name}')


def name_frame(made):
    filename, line = made.where
    place = '' if filename is None else f' ({filename}:{line})'
    return f'{made.name or "?"}{place}'


def name_step(how, name):
    """Say how an object is held, to stand before what it is."""
    if how == NAME:
        return name
    if how == KEY:
        return f'.{name}'
    return {ITEM: '[...]', VALUE: '[...]', KEY_ITSELF: 'key',
            ELEMENT: '{...}', CONTENT: 'content', STACK: 'evaluation stack',
            OF_TYPE: 'its class', IMMORTAL: 'immortal', C_CODE: 'C code',
            SHARED: 'shared'}.get(how, '')


def _is_plain(name):
    """Is it to be read as an attribute, though it has no dot?"""
    return name.isidentifier()


class _Writer:
    """Writes a way: expressions, with arrows where a person would need a
    sentence."""

    def __init__(self, exact):
        self.parts = []
        self.exact = exact        # one object: say which key, which item
        self.shown = None         # the object that the last part ends with
        self.open = False         # an access can be added to the last part

    def add(self, text, made):
        self.parts.append(text)
        self.shown = made

    def access(self, text):
        if self.parts:
            self.parts[-1] += text
        else:
            self.parts.append(text.lstrip('.'))
        self.shown = None

    def text(self):
        return ' -> '.join(self.parts)


def write_path(steps, exact):
    """Return the text of a list of Step from the root, None for those that
    are left out.  *exact*: the steps are of one object."""
    writer = _Writer(exact)
    before = None                 # object
    for step in steps:
        if step is None:
            writer.add('...', None)
        else:
            _write_step(writer, before, step)
        before = step and step.object
    if steps and writer.shown is not steps[-1].object:
        writer.add(name_object(steps[-1].object), steps[-1].object)
    return writer.text()


def _write_step(writer, before, step):
    made = step.object
    if step.how == FIXED:
        if made.kind != STATE:
            writer.add(name_object(made), made)
        return
    if made.kind == MODULE and before is not None and _is_modules(before):
        # Of sys.modules, in whatever way.
        writer.parts[:] = [made.name or '?']
        writer.shown = made
        return
    if made.kind == THREAD:
        return
    if step.how in (IMMORTAL, C_CODE):
        writer.add({IMMORTAL: 'immortal', C_CODE: 'C code'}[step.how], None)
        writer.add(name_object(made), made)
        return
    if made.kind == FRAME and made.type is None:
        writer.parts[:] = [name_frame(made)]
        writer.shown = made
        return
    _write_access(writer, before, step)
    if _needs_name(step):
        writer.add(name_object(made), made)


def _is_modules(before):
    return before.kind in (DICT, SEQUENCE, STATE)


def _needs_name(step):
    """Does the way to it not say what it is?"""
    made = step.object
    if made.kind in (METHOD, CODE):
        return True
    if made.kind == FRAME:
        return True
    if made.kind in (TYPE, FUNCTION, MODULE):
        return not (step.how == KEY and made.name is not None
                    and made.name.rpartition('.')[2] == step.name)
    return step.how in (OTHER, OF_TYPE)


def _write_access(writer, before, step):
    how, name = step.how, step.name
    if how == NAME:
        _write_name(writer, before, name, step.object)
    elif how == KEY:
        writer.access(f'.{name}')
    elif how == ITEM:
        writer.access(f'[{step.index}]' if writer.exact else '[...]')
    elif how == VALUE:
        writer.access(f'[{step.key!r}]' if writer.exact
                      and step.key is not None else '[...]')
    elif how == KEY_ITSELF:
        writer.access('.keys()')
    elif how == ELEMENT:
        writer.access('{...}')
    elif how == STACK:
        _say_of(writer, 'evaluation stack', before)
    elif how == OTHER and before is not None and writer.shown is not before:
        # What is unnamed must at least be of something.
        writer.parts[-1:] = [f'{"".join(writer.parts[-1:])} '
                             f'({name_object(before)})'.strip()]


def _write_name(writer, before, name, made):
    if name in ('__dict__', '__closure__', '__func__', '__code__'):
        return
    if name.startswith(('local ', 'closure ')):
        _say_of(writer, name, before)
    elif before is not None and before.kind in (STATE, THREAD):
        what = name_object(before)
        writer.parts[:] = [f'{what}: {name}']
        writer.shown = None
    elif name == '__self__':
        writer.add(name_object(made), made)
    elif name.startswith('.'):
        writer.access(name)
    elif _is_plain(name):
        writer.access(f'.{name}')
    else:
        _say_of(writer, name, before)


def _say_of(writer, name, before):
    """Write that something is the local variable x of a function."""
    if before is not None and before.kind == FRAME and before.type is None:
        writer.parts[:] = [f'{name} of {name_frame(before)}']
    elif writer.parts:
        writer.parts[-1] += f', {name}'
    else:
        writer.parts.append(name)
    writer.shown = None
