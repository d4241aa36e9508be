"""`dtfsal benchmark live`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "speed from a video file to its maps, stage by stage, in the steady state"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    common.add_engine_argument(parser)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip of several windows' length")
    parser.add_argument(
        "--without-reuse",
        type=Path,
        metavar="DIR",
        help="also measure an engine of the same weights with a single graph",
    )
    parser.add_argument(
        "--runs", type=int, default=3, metavar="N", help="runs over the clip with each engine (default: 3)"
    )
    common.add_device_argument(parser)
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.live import live, markdown

    return common.measure_and_report(
        args,
        lambda bar: live(
            args.engine,
            args.video,
            without_reuse=args.without_reuse,
            runs=args.runs,
            device=args.device,
            threads=args.threads,
            command=common.command_line(args),
            progress=bar.step,
        ),
        markdown,
        steps=args.runs * (1 if args.without_reuse is None else 2),
        slows="slows everything",
    )
