"""`dtfsal benchmark layers`."""

import argparse

from dtfsal.benchmarks.cli import common

HELP = "where an ONNX Runtime engine's time goes, layer by layer: share, GFLOP/s, share of the machine's peak"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    common.add_engine_argument(parser)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="profiled runs of each graph (default: 3)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.layers import draw, layers, markdown

    return common.measure_and_report(
        args,
        lambda bar: layers(
            args.engine, runs=args.runs, threads=args.threads, command=common.command_line(args), progress=bar.step
        ),
        markdown,
        draw=draw,
        slows="slows everything",
    )
