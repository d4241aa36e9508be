"""`python -m dtfsal.engines.plugins`: build the TensorRT plugin."""

import argparse
import sys
from pathlib import Path

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.plugins.build import build_plugin_library

EXAMPLES = """\
examples:
  python -m dtfsal.engines.plugins
      for all GPUs that the CUDA toolkit knows, into the user's cache folder, where builds and engines look for it
  python -m dtfsal.engines.plugins --architecture 89
      for one GPU, in a fraction of the time
  python -m dtfsal.engines.plugins --tensorrt-include /opt/tensorrt/include --output lib

Exit codes: 0 built, 4 the compilation failed, 5 a compiler or TensorRT's headers are missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.engines.plugins",
        description="Build the TensorRT plugin (needs CMake, a C++ compiler and CUDA's nvcc).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the library's folder (default: a cache's)")
    parser.add_argument(
        "--architecture", action="append", default=[], metavar="NN", help="a compute capability, such as 90; repeat it"
    )
    parser.add_argument("--tensorrt-include", type=Path, metavar="DIR", help="the folder of NvInferRuntime.h")
    parser.add_argument("-q", "--quiet", action="store_true", help="no lines of the build")
    args = parser.parse_args(argv)

    def report(line: str) -> None:
        if not args.quiet:
            sys.stderr.write(f"{line}\n")

    try:
        library = build_plugin_library(
            args.output, architectures=args.architecture, tensorrt_include=args.tensorrt_include, report=report
        )
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{library}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
