"""Paths of references as a person would write them:
`shop.CATALOGUE.listeners[...]`.

The C module describes references and objects as tuples, see
Modules/_snapshot/graph_rows.h.
"""

from collections import namedtuple

# Kinds of objects, and of references: as in pycore_tracer_graph.h and in
# Modules/_snapshot/graph.h.
(PLAIN, DICT, NAMESPACE, SEQUENCE, SET, CELL, MODULE, TYPE, FUNCTION, METHOD,
 CODE, FRAME, THREAD, STATE, INTERPRETER) = range(15)
(NAME, KEY, ITEM, VALUE, KEY_ITSELF, ELEMENT, CONTENT, STACK, OTHER, OF_TYPE,
 FIXED, IMMORTAL, C_CODE, SHARED) = range(14)

_FIXED = {0: 'everything', 1: 'interpreter', 2: 'static types', 3: 'threads'}
_FRAMES = {'generator': 'generator', 'coroutine': 'coroutine',
           'async_generator': 'asynchronous generator'}

_KINDS = {MODULE: 'module', TYPE: 'class', FUNCTION: 'function',
          METHOD: 'bound method', CODE: 'code of'}
# Types that are better known by other names; types whose items have no names;
# objects whose parts are unknown.
_CACHE = 'functools._lru_cache_wrapper'
_SHORT = {_CACHE: 'lru_cache', '_thread._local': 'threading.local',
          '_asyncio.Future': 'Future', '_asyncio.Task': 'Task',
          '_contextvars.Context': 'Context'}
_SEQUENCES = ('collections.deque',)
_INNER = ('_contextvars.Context', 'hamt', 'hamt_array_node',
          'hamt_bitmap_node', 'hamt_collision_node')

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
    if made.kind == STATE:        # a library in which an address was found
        return f'perhaps {made.name}'
    if made.kind == INTERPRETER:  # another one
        return f'interpreter {made.name}'
    return f'{_KINDS[made.kind]} {made.name}'


def _is_library(made):
    return made.kind == STATE and made.number not in _FIXED


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


class _Writer:
    """Writes a path: as expressions, with arrows where no expression leads
    on."""

    def __init__(self, exact):
        self.parts = []           # texts
        self.exact = exact        # one object: say which key, which item
        self.prefix = ''          # the interpreter, if it is another one
        self.shown = None         # the object that the last part ends with
        self.end = ''             # of the last part

    def add(self, text, made):
        self.close()
        self.parts.append(text)
        self.shown = made

    def begin(self, text, made=None, end=''):
        """Start again from here: this says enough to find the way."""
        self.parts[:] = [self.prefix + text]
        self.shown = made
        self.end = end

    def access(self, text):
        if self.parts:
            self.parts[-1] += text
        else:
            self.parts.append(text.lstrip('.'))
        self.shown = None

    def close(self):
        if self.parts:
            self.parts[-1] += self.end
        self.end = ''


def write_path(steps, exact):
    """Return the text of a list of Step from the root, with None in place of
    steps that are left out.  *exact*: the steps lead to one object."""
    writer = _Writer(exact)
    before = None                 # object
    for step in steps:
        if step is None:
            writer.add('...', None)
        else:
            _write_step(writer, before, step, exact or step is not steps[-1])
        before = step and step.object
    if steps and writer.shown is not steps[-1].object:
        writer.add(_say_what(steps[-1].object, exact), steps[-1].object)
    writer.close()
    return ' -> '.join(writer.parts)


def _say_what(made, exact):
    """Say what an object is; for several classes or functions, say only that
    they are such."""
    if not exact and made.kind in _KINDS and made.kind != METHOD:
        made = made._replace(name='')
    return _SHORT.get(made.type, name_object(made).rstrip())


def _write_step(writer, before, step, exact):
    made = step.object
    if made.kind == INTERPRETER:
        writer.prefix = f'{name_object(made)}: '
    elif step.how == FIXED:
        if made.kind != STATE:
            writer.add(name_object(made), made)
    elif made.kind == MODULE and before is not None and before.kind in (
            DICT, SEQUENCE, STATE, INTERPRETER) and not _is_library(before):
        # An item of sys.modules, however it is reached.
        writer.begin(made.name or '?', made)
    elif made.kind == THREAD:
        pass
    elif _is_library(made):
        writer.add(f'C code ({name_object(made)})', made)
    elif step.how in (IMMORTAL, C_CODE):
        writer.add(name_step(step.how, None), None)
        writer.add(_say_what(made, exact), made)
    elif made.kind == FRAME and made.type is None:
        writer.begin(name_frame(made), made)
    else:
        _write_access(writer, before, step)
        if _needs_name(before, step):
            writer.add(_say_what(made, exact), made)


def _needs_name(before, step):
    """Does the path leave open what the object is?"""
    made = step.object
    if made.kind in (METHOD, CODE, FRAME):
        return True
    if made.kind in (TYPE, FUNCTION, MODULE):
        return not (step.how == KEY and made.name is not None
                    and made.name.rpartition('.')[2] == step.name)
    if step.how == OTHER:
        return not (made.type in _INNER or before is not None and (
            before.type in _SEQUENCES
            or (before.type, made.type) == (_CACHE, 'dict')))
    return step.how == OF_TYPE


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
        _write_other(writer, before)


def _write_other(writer, before):
    """Say which object a part without a name belongs to."""
    if before.kind in (STATE, THREAD, INTERPRETER) and not writer.parts:
        writer.add(name_object(before), before)
    elif before.type in _SEQUENCES:
        writer.access('[...]')
    elif before.type not in _INNER and writer.parts:
        writer.access(f' ({_SHORT.get(before.type, name_object(before))})')


def _write_name(writer, before, name, made):
    if name in ('__dict__', '__closure__', '__func__', '__code__'):
        return
    if name.startswith(('local ', 'closure ')):
        _say_of(writer, name, before)
    elif before is not None and before.kind in (STATE, THREAD):
        writer.begin(f'{name_object(before)}: {name}')
    elif before is not None and before.kind == INTERPRETER:
        writer.begin(name)
    elif name == '__self__':
        writer.add(_say_what(made, writer.exact), made)
    elif name.startswith('.'):
        writer.access(name)
    elif name.isidentifier():
        writer.access(f'.{name}')
    else:
        _say_of(writer, name, before)


def _say_of(writer, name, before):
    """Write that something is the local variable x of a function."""
    if before is not None and before.kind == FRAME and before.type is None:
        writer.begin(name, end=f' of {name_frame(before)}')
    elif writer.parts:
        writer.access(f', {name}')
    else:
        writer.access(name)
