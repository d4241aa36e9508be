"""`dtfsal benchmark layers`."""

import argparse

from dtfsal.benchmarks.cli._common import (
    add_engine_argument,
    add_result_arguments,
    add_threads_argument,
    command_line,
    measure_and_report,
)

HELP = "where an ONNX Runtime engine's time goes, layer by layer: share, GFLOP/s, share of the machine's peak"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    add_engine_argument(parser)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="profiled runs of each graph (default: 3)")
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.layers import draw, layers, markdown

    return measure_and_report(
        args,
        lambda bar: layers(
            args.engine, runs=args.runs, threads=args.threads, command=command_line(args), progress=bar.step
        ),
        markdown,
        draw=draw,
        slows="slows everything",
    )
