"""`python -m dtfsal.runtime.capi`: `dtfsal native build capi`, until the next release."""

import sys

from dtfsal.engines.native.builder import run_moved_command

if __name__ == "__main__":
    sys.exit(run_moved_command("dtfsal.runtime.capi", "capi"))
