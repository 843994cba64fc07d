import sys

from tracemalloctext.command_line import main

sys.exit(main())
