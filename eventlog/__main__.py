"""`python -m eventlog` is the command `eventlog`."""

import sys

from eventlog.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
