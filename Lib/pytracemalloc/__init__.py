"""The command pytracemalloc: run a program under the tracer, look at what it
recorded.

cli.py reads the command line; commands/ has one file per sub-command, which
computes; reporters/ has one file per output format, which renders.  Between
the two, everything that draws a call tree uses tree.py.
"""


def load_ipython_extension(shell):
    """What %load_ext pytracemalloc calls."""
    from pytracemalloc.magics import MemoryMagics
    shell.register_magics(MemoryMagics)
