"""`dtfsal benchmark stability`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "whether maps follow a video smoothly or flicker"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--video", type=Path, action="append", required=True, metavar="FILE", help="a video; repeatable"
    )
    common.add_device_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.accuracy.stability import markdown, measure

    return common.measure_and_report(
        args,
        lambda bar: measure(args.engine, args.video, device=args.device, progress=bar.step),
        markdown,
        steps=len(args.video),
        unit="video",
    )
