"""`dtfsal benchmark stages`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli._common import (
    add_engine_argument,
    add_result_arguments,
    add_threads_argument,
    check_counts,
    result_files,
    show,
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
    from tqdm import tqdm

    from dtfsal.benchmarks.timing.stages import draw, markdown, stages
    from dtfsal.engines.errors import UsageError

    check_counts(args)
    strides = tuple(dict.fromkeys(args.stride or (1,)))
    if min(strides) < 1:
        raise UsageError(f"--stride must be at least 1, not {min(strides)}")
    command = ["dtfsal", "benchmark", "stages", "--engine", args.engine.name, "--video", args.video.name]
    command += [word for stride in strides for word in ("--stride", str(stride))] + ["--runs", str(args.runs)]
    with result_files(args.output, picture=True) as write:
        with tqdm(total=args.runs * len(strides), disable=None, desc="stages", unit="run") as bar:
            report = stages(
                args.engine,
                args.video,
                strides=strides,
                runs=args.runs,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report), draw(report) if args.output else None)
    return show(report, markdown(report), "slows everything", as_json=args.json)
