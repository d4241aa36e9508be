"""`python -m dtfsal.engines.native.deform_conv`: build the TensorRT plugin."""

import argparse
import sys
from pathlib import Path

from dtfsal.engines.native.builder import build_command
from dtfsal.engines.native.deform_conv.build import build_plugin_library

EXAMPLES = """\
examples:
  python -m dtfsal.engines.native.deform_conv
      for all GPUs that the CUDA toolkit knows, into the user's cache folder, where builds and engines look for it
  python -m dtfsal.engines.native.deform_conv --architecture 89
      for one GPU, in a fraction of the time
  python -m dtfsal.engines.native.deform_conv --tensorrt-include /opt/tensorrt/include --output lib

Exit codes: 0 built, 4 the compilation failed, 5 a compiler or TensorRT's headers are missing, 6 cannot write.
"""


def main(argv: list[str] | None = None) -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m dtfsal.engines.native.deform_conv",
        description="Build the TensorRT plugin (needs CMake, a C++ compiler and CUDA's nvcc).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tensorrt-include", type=Path, metavar="DIR", help="the folder of NvInferRuntime.h")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show the build's output")

    def build(args: argparse.Namespace) -> Path:
        def report(line: str) -> None:
            if not args.quiet:
                sys.stderr.write(f"{line}\n")

        return build_plugin_library(
            args.output, architectures=args.architecture, tensorrt_include=args.tensorrt_include, report=report
        )

    return build_command(parser, build, argv)


if __name__ == "__main__":
    sys.exit(main())
