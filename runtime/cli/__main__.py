"""`python -m dtfsal.runtime.cli`, the same as `dtfsal`."""

import sys

from dtfsal.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
