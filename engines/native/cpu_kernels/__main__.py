"""`python -m dtfsal.engines.native.cpu_kernels`: build the CPU's operators."""

import argparse
import sys
from pathlib import Path

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.native.cpu_kernels.library import build_cpu_kernels, cpu_kernels_library

EXAMPLES = """\
examples:
  python -m dtfsal.engines.native.cpu_kernels
      into the user's cache folder, where `dtfsal build --cpu-kernels` looks
  python -m dtfsal.engines.native.cpu_kernels --output lib

Exit codes: 0 built, 4 the compilation failed, 5 CMake or the C++ compiler is missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.engines.native.cpu_kernels",
        description="Build the custom operators for ONNX Runtime on the CPU (needs CMake and a C++ compiler).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the library's folder (default: the user's cache)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show the build's output")
    args = parser.parse_args(argv)

    def report(line: str) -> None:
        if not args.quiet:
            sys.stderr.write(f"{line}\n")

    try:
        library = cpu_kernels_library(report) if args.output is None else build_cpu_kernels(args.output, report=report)
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{library}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
