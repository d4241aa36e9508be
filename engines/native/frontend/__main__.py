"""`python -m dtfsal.engines.native.frontend`: build the GPU's front-end."""

import argparse
import sys

from dtfsal.engines.native.builder import build_command
from dtfsal.engines.native.frontend.build import build_front_end_library

EXAMPLES = """\
examples:
  python -m dtfsal.engines.native.frontend
      for all GPUs that the CUDA toolkit knows, into the user's cache folder, where engines look for it
  python -m dtfsal.engines.native.frontend --architecture 89 --output lib

Exit codes: 0 built, 4 the compilation failed, 5 a compiler is missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.engines.native.frontend",
        description="Build the GPU's front-end (needs CMake, a C++ compiler and CUDA's nvcc).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return build_command(
        parser, lambda args: build_front_end_library(args.output, architectures=args.architecture), argv
    )


if __name__ == "__main__":
    sys.exit(main())
