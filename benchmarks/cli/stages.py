"""`dtfsal benchmark stages`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli._common import (
    add_engine_argument,
    add_result_arguments,
    add_threads_argument,
    command_line,
    measure_and_report,
)

HELP = "from a video file to a video of overlays, stage by stage, beside the engine's own rate"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    add_engine_argument(parser)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a video")
    parser.add_argument(
        "--stride", type=int, action="append", metavar="N", help="predict every N-th frame; repeatable (default: 1)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs with each stride (default: 3)")
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.stages import draw, markdown, stages

    strides = tuple(dict.fromkeys(args.stride or (1,)))
    return measure_and_report(
        args,
        lambda bar: stages(
            args.engine,
            args.video,
            strides=strides,
            runs=args.runs,
            threads=args.threads,
            command=command_line(args),
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=args.runs * len(strides),
        slows="slows everything",
    )
