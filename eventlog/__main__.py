"""The command `eventlog`, as `python -m eventlog`."""

import sys

from eventlog.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
