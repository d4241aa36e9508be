"""`python -m dtfsal.runtime.capi`: build libdtfsal, or install it for C and C++ programs."""

import argparse
import sys
from pathlib import Path

from dtfsal.engines.errors import DtfsalError
from dtfsal.runtime.capi.build import build_native_runtime, install_native_runtime

EXAMPLES = """\
examples:
  python -m dtfsal.runtime.capi
      into the user's cache folder, where dtfsal.runtime.capi.NativePredictor looks for it
  python -m dtfsal.runtime.capi --prefix /usr/local
      the library, its header and its packages for CMake and pkg-config
  python -m dtfsal.runtime.capi --prefix /usr/local --tensorrt-include /usr/include/x86_64-linux-gnu
      with the back end for TensorRT's engines

Exit codes: 0 built, 2 wrong arguments, 4 the compilation failed, 5 a compiler is missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.runtime.capi",
        description="Build libdtfsal, the runtime for C and C++ programs (needs CMake and a C++17 compiler).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the library's folder (default: the user's cache)"
    )
    where.add_argument(
        "--prefix", type=Path, metavar="DIR", help="install everything to this prefix, such as /usr/local"
    )
    parser.add_argument("--tensorrt-include", type=Path, metavar="DIR", help="the folder of TensorRT's headers")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the build's output")
    args = parser.parse_args(argv)

    def report(line: str) -> None:
        if args.verbose:
            sys.stderr.write(f"{line}\n")

    try:
        if args.prefix is None:
            built = build_native_runtime(args.output, tensorrt_include=args.tensorrt_include, report=report)
        else:
            install_native_runtime(args.prefix, tensorrt_include=args.tensorrt_include, report=report)
            built = args.prefix
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{built}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
