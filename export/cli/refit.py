"""`dtfsal refit`: an engine with other weights, without a build."""

import argparse
import time
from pathlib import Path

from dtfsal.export.cli.common import Stages, add_result_arguments, print_engine, weights_file

HELP = "give an engine other weights, without a build"
EXAMPLES = """\
examples:
  dtfsal refit lite.engine --weights new.safetensors --output new.engine
      the same engine with the weights of a file
  dtfsal refit stripped.engine --weights dtfsal.safetensors --output dtfsal.engine
      the weights that `dtfsal build --strip-weights` left out, on the machine that will run the engine

The weights must be of the engine's model and configuration; the rest of the engine stays as it was built. Engines for
TensorRT take other weights only if they were built with --refittable. INT8 engines take none.
Exit codes: 0 written, 1 failed, 2 wrong usage, 4 bad engine or weights, 5 a library is absent, 6 cannot write.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Write an engine again with other weights: the same graphs and options, without a build."
    parser.epilog = EXAMPLES
    parser.add_argument("engine", type=Path, metavar="ENGINE", help="the engine's folder; it stays as it is")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="FILE",
        help="safetensors file that dtfsal saved, or a hub's repository",
    )
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Refit; errors are for the caller to print."""
    from dtfsal.export.refit import RefitRequest, refit_engine

    request = RefitRequest(
        engine=args.engine, weights=weights_file(args.weights), output=args.output, overwrite=args.force
    )
    started = time.perf_counter()
    with Stages(quiet=args.quiet, doing="refitting") as stages:
        manifest = refit_engine(request, progress=stages)
    return print_engine(args, manifest, started)
