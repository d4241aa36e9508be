"""`dtfsal benchmark stability`."""

import argparse
import json
import sys
from pathlib import Path

from dtfsal.benchmarks.cli._common import add_device_argument, add_engine_argument, add_result_arguments, result_files

HELP = "whether maps follow a video smoothly or flicker"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    add_engine_argument(parser)
    parser.add_argument(
        "--video", type=Path, action="append", required=True, metavar="FILE", help="a video; repeatable"
    )
    add_device_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.accuracy.stability import markdown, measure

    with result_files(args.output) as write:
        with tqdm(total=len(args.video), disable=None, desc="stability", unit="video") as bar:
            report = measure(args.engine, args.video, device=args.device, progress=lambda: bar.update() and None)
        write(report, markdown(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    return 0
