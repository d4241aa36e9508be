"""`python -m dtfsal.engines.native.deform_conv`: `dtfsal native build deform-conv`, until the next release."""

import sys

from dtfsal.engines.native.builder import run_moved_command

if __name__ == "__main__":
    sys.exit(run_moved_command("dtfsal.engines.native.deform_conv", "deform-conv"))
