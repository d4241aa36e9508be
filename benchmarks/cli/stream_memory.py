"""`dtfsal benchmark stream-memory`."""

import argparse
from typing import Any

from dtfsal.benchmarks.cli import common
from dtfsal.runtime.cli.progress import Progress

HELP = "whether a stream's memory grows, in Python and in C"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--frames", type=int, default=100_000, metavar="N", help="frames to push (default: 100000)")
    common.add_native_arguments(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.stream_memory import FORMS, draw, markdown, memory
    from dtfsal.runtime.media.writer import atomic_output

    def measure(bar: Progress) -> dict[str, Any]:
        report = memory(
            args.engine,
            args.video,
            frames=args.frames,
            library=None if args.library is None else str(args.library),
            command=common.command_line(args),
            progress=bar.step,
        )
        if args.output is not None:
            with atomic_output(args.output.with_suffix(".png")) as file:
                draw(report).save(file, format="png")
        return report

    return common.measure_and_report(args, measure, markdown, steps=len(FORMS), unit="form")
