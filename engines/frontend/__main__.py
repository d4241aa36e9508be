"""`python -m dtfsal.engines.frontend`: build the GPU's front-end."""

import argparse
import sys
from pathlib import Path

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.frontend.build import build_front_end_library

EXAMPLES = """\
examples:
  python -m dtfsal.engines.frontend
      for all GPUs that the CUDA toolkit knows, into the user's cache folder, where engines look for it
  python -m dtfsal.engines.frontend --architecture 89 --output lib

Exit codes: 0 built, 4 the compilation failed, 5 a compiler is missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.engines.frontend",
        description="Build the GPU's front-end (needs CMake, a C++ compiler and CUDA's nvcc).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the library's folder (default: a cache's)")
    parser.add_argument(
        "--architecture", action="append", default=[], metavar="NN", help="a compute capability, such as 90; repeat it"
    )
    args = parser.parse_args(argv)
    try:
        library = build_front_end_library(args.output, architectures=args.architecture)
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{library}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
