"""`python -m dtfsal.benchmarks` is `dtfsal benchmark`."""

import sys

from dtfsal.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
