"""`python -m dtfsal.benchmarks.gpu_check` is `dtfsal benchmark gpu`, also from a checkout that is not installed."""

import argparse
import sys

from dtfsal.benchmarks.cli import common, gpu
from dtfsal.engines.errors import DtfsalError


def main() -> int:
    """Run the check and say an error in one line, as the command line does."""
    parser = argparse.ArgumentParser(prog="python -m dtfsal.benchmarks.gpu_check", description=gpu.HELP)
    gpu.configure(parser)
    args = parser.parse_args()
    args.kind, args.parser = "gpu", parser
    try:
        common.check_counts(args)
        return gpu.run(args)
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
