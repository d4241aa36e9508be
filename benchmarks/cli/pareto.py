"""`dtfsal benchmark pareto`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "accuracy against speed: engines and strides beside the full-rate maps of an fp32 engine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument(
        "-e", "--engine", type=Path, action="append", required=True, metavar="DIR", help="an engine; repeatable"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="the fp32 engine whose maps are the reference (default: the first)",
    )
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip")
    parser.add_argument(
        "--stride", type=int, action="append", metavar="N", help="predict every N-th frame; repeatable (default: 1 2 4)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each choice (default: 3)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.accuracy.pareto import draw, markdown, pareto

    strides = tuple(dict.fromkeys(args.stride or (1, 2, 4)))
    return common.measure_and_report(
        args,
        lambda bar: pareto(
            args.engine,
            args.video,
            reference=args.reference or args.engine[0],
            strides=strides,
            runs=args.runs,
            threads=args.threads,
            command=common.command_line(args),
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=1 + args.runs * len(strides) * len(args.engine),
        slows="slows everything",
    )
