"""`python -m dtfsal.engines.native.cpu_kernels`: `dtfsal native build cpu-kernels`, until the next release."""

import sys

from dtfsal.engines.native.builder import run_moved_command

if __name__ == "__main__":
    sys.exit(run_moved_command("dtfsal.engines.native.cpu_kernels", "cpu-kernels"))
