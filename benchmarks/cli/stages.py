"""`dtfsal benchmark stages`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "from a video file to a video of overlays, stage by stage, beside the engine's own rate"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    common.add_engine_argument(parser)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a video")
    parser.add_argument(
        "--stride", type=int, action="append", metavar="N", help="predict every N-th frame; repeatable (default: 1)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs with each stride (default: 3)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.stages import draw, markdown, stages

    strides = tuple(dict.fromkeys(args.stride or (1,)))
    return common.measure_and_report(
        args,
        lambda bar: stages(
            args.engine,
            args.video,
            strides=strides,
            runs=args.runs,
            threads=args.threads,
            command=common.command_line(args),
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=args.runs * len(strides),
        slows="slows everything",
    )
