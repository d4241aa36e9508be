"""`dtfsal benchmark live`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli._common import (
    add_device_argument,
    add_engine_argument,
    add_result_arguments,
    add_threads_argument,
    check_counts,
    result_files,
    show,
)

HELP = "speed from a video file to its maps, stage by stage, in the steady state"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    add_engine_argument(parser)
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
    add_device_argument(parser)
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.timing.live import live, markdown

    check_counts(args)
    # Names, not paths: a committed result must not show the folders it was made in.
    command = ["dtfsal", "benchmark", "live", "--engine", args.engine.name, "--video", args.video.name]
    if args.without_reuse is not None:
        command += ["--without-reuse", args.without_reuse.name]
    command += ["--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    total = args.runs * (1 if args.without_reuse is None else 2)
    with result_files(args.output) as write:
        with tqdm(total=total, disable=None, desc="live", unit="run") as bar:
            report = live(
                args.engine,
                args.video,
                without_reuse=args.without_reuse,
                runs=args.runs,
                device=args.device,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    return show(report, markdown(report), "slows everything", as_json=args.json)
