"""`dtfsal benchmark stream`."""

import argparse

from dtfsal.benchmarks.cli import common

HELP = "what live prediction costs beside the engine, in Python and in C"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="frames in each run (default: 100)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each form (default: 3)")
    common.add_native_arguments(parser)
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.stream import markdown, stream
    from dtfsal.runtime.capi.library import NativeLibrary

    return common.measure_and_report(
        args,
        lambda bar: stream(
            args.engine,
            args.video,
            frames=args.frames,
            runs=args.runs,
            threads=args.threads,
            library=NativeLibrary(args.library),
            command=common.command_line(args),
            progress=bar.step,
        ),
        markdown,
        steps=4 * args.runs,
        slows="slows everything",
    )
