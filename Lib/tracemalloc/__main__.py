import sys

from tracemalloctext.command_091 import main

if __name__ == "__main__":
    sys.exit(main())
