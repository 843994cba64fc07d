"""%%memory, %memory and %memory_top: the magics of IPython.

A cell is compiled here as IPython would do it, and runs between the two
moments of a Span.  The thread is hidden but for that run, so that a report
holds what the cell allocates, and nothing of IPython's work or of ours.
"""

import ast
from argparse import ArgumentTypeError
from collections import namedtuple
import inspect
import itertools
import sys
from types import FunctionType

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics, line_cell_magic, line_magic, magics_class, needs_local_scope,
    no_var_expand, output_can_be_silenced)
from IPython.display import display

from _tracemalloc import _hidden, _shown
from pytracemalloc.arguments import positive
from pytracemalloc.cell_reports import Page, cell_report, kernel_report
from pytracemalloc.cells import Cells
from pytracemalloc.span import Span
import tracemalloc

_KEYS = 'line', 'function', 'file', 'module', 'type'
_ALLOWED = '--top N, --by KEY and --html'

Options = namedtuple('Options', 'top by html', defaults=(10, 'line', False))


@magics_class
class MemoryMagics(Magics):

    @line_cell_magic
    @output_can_be_silenced
    @needs_local_scope
    @no_var_expand
    @_hidden
    def memory(self, line='', cell=None, local_ns=None):
        """Run a cell, or a statement, and show the memory that it took.

            %%memory [--top N] [--by KEY] [--html]
            %memory [--top N] [--by KEY] [--html] STATEMENT

        That is the most that was live, and what is left behind after a garbage
        collection, by line of the cell.

        --top N   rows, 10 by default
        --by KEY  line (of the cell), function, file, module or type
        --html    the graph of what has changed, as the HTML report has it
        """
        __tracebackhide__ = True
        options, line = _parse(line)
        cells = Cells(self.shell)
        if cell is None:
            if not line:
                raise UsageError('%memory needs a statement; %memory_top '
                                 'shows the memory of the kernel')
            code, name = self._compile_line(line, cells)
        elif line:
            raise UsageError(f'%%memory takes {_ALLOWED}; write the cell '
                             f'below it')
        else:
            code, name = self._compile_cell(cell, cells)
        span = Span('full', options.by == 'type')
        span.start()
        try:
            return self._run(code, local_ns)
        finally:
            if span.stop():
                self._show(span, options, cells, name)
            else:
                print('The cell has stopped tracing: its memory is not known')

    def _compile_cell(self, text, cells):
        # The first line of a cell is that of the magic.
        blank = len(list(itertools.takewhile(lambda line: not line.strip(),
                                             text.splitlines())))
        source = ('# %%memory' + '\n' * (1 + blank)
                  + self.shell.transform_cell(text))
        name = self._cache(source, cells)
        return self._compile(source, name), name

    def _compile_line(self, line, cells):
        source = self.shell.transform_cell(line)
        name, lineno = cells.caller(sys._getframe())
        if name is None:
            name = self._cache(source, cells)
        return self._compile(source, name, lineno), name

    def _cache(self, source, cells):
        """Return the name for the text, which has the number of the cell."""
        caller, _ = cells.caller(sys._getframe())
        number = (self.shell.execution_count if caller is None else
                  cells.label(caller).removeprefix('In[').removesuffix(']'))
        return self.shell.compile.cache(source, number)

    def _compile(self, source, name, lineno=1):
        """Return code for the statements, and for the last expression or
        None."""
        compiler = self.shell.compile
        tree = self.shell.transform_ast(compiler.ast_parse(source, name))
        ast.increment_lineno(tree, lineno - 1)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        with compiler.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            codes = (compiler(tree, name, 'exec'),
                     last and compiler(last, name, 'eval'))
        if any(code and code.co_flags & inspect.CO_COROUTINE
               for code in codes):
            raise UsageError('%memory cannot wait for a coroutine; use '
                             '`with tracemalloc.measure()` in the cell')
        return codes

    def _run(self, codes, local_ns):
        __tracebackhide__ = True
        statements, last = codes
        self._execute(statements, local_ns)
        return self._execute(last, local_ns) if last else None

    def _execute(self, code, local_ns):
        __tracebackhide__ = True
        names = self.shell.user_ns
        if local_ns is names:
            # eval() would make the function where that is traced.
            return _shown(FunctionType(code, names))()
        return _shown(eval)(code, names, local_ns)

    def _show(self, span, options, cells, name):
        if options.html:
            display(Page(cells, span.collected, span.before))
        else:
            display(cell_report(span, options.by, options.top, cells, name))

    @line_magic
    @no_var_expand
    @_hidden
    def memory_top(self, line=''):
        """Show which lines of my code, those of cells among it, hold memory.

            %memory_top [--top N] [--by KEY] [--html]

        The options are those of %%memory.
        """
        options, rest = _parse(line)
        if rest:
            raise UsageError(f'%memory_top takes {_ALLOWED}, not {rest!r}')
        if not tracemalloc.is_tracing():
            raise UsageError("tracing is off; start it with tracemalloc.start"
                             "('full'), or the kernel with PYTHONTRACEMALLOC="
                             "full")
        cells = Cells(self.shell)
        if options.html:
            display(Page(cells, tracemalloc.take_snapshot(traces=False)))
        else:
            display(kernel_report(options.by, options.top, cells))


def _parse(line):
    """Return (Options, the rest of the line)."""
    options = Options()._asdict()
    rest = line.strip()
    while rest.startswith('--'):
        word, _, rest = rest.partition(' ')
        name, equals, value = word.removeprefix('--').partition('=')
        if name not in _PARSERS:
            raise UsageError(f'{word} is not known; there are {_ALLOWED}')
        if name != 'html' and not equals:
            value, _, rest = rest.strip().partition(' ')
        options[name] = _PARSERS[name](value)
        rest = rest.strip()
    return Options(**options), rest


def _parse_top(value):
    try:
        return positive(value)
    except ArgumentTypeError as exc:
        raise UsageError(f'--top: {exc}') from None


def _parse_by(value):
    if value not in _KEYS:
        raise UsageError(f'--by: {value!r} is not known; there are '
                         f'{", ".join(_KEYS)}')
    return value


def _parse_html(value):
    if value:
        raise UsageError('--html has no value')
    return True


_PARSERS = {'top': _parse_top, 'by': _parse_by, 'html': _parse_html}
