import sys

from pytracemalloc.cli import main

sys.exit(main(prog='python -m pytracemalloc'))
