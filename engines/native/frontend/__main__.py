"""`python -m dtfsal.engines.native.frontend`: `dtfsal native build frontend`, until the next release."""

import sys

from dtfsal.engines.native.builder import run_moved_command

if __name__ == "__main__":
    sys.exit(run_moved_command("dtfsal.engines.native.frontend", "frontend"))
