"""`dtfsal benchmark stream-memory`."""

import argparse
import json
import sys

from dtfsal.benchmarks.cli._common import add_native_arguments, add_result_arguments, check_counts, result_files

HELP = "whether a stream's memory grows, in Python and in C"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--frames", type=int, default=100_000, metavar="N", help="frames to push (default: 100000)")
    add_native_arguments(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.timing.stream_memory import FORMS, draw, markdown, memory
    from dtfsal.runtime.media.writer import atomic_output

    check_counts(args)
    command = ["dtfsal", "benchmark", "stream-memory", "--engine", args.engine.name, "--video", args.video.name]
    command += ["--frames", str(args.frames)]
    with result_files(args.output) as write:
        with tqdm(total=len(FORMS), disable=None, desc="stream-memory", unit="form") as bar:
            report = memory(
                args.engine,
                args.video,
                frames=args.frames,
                library=None if args.library is None else str(args.library),
                command=command,
                progress=lambda: bar.update() and None,
            )
        if args.output is not None:
            with atomic_output(args.output.with_suffix(".png")) as file:
                draw(report).save(file, format="png")
        write(report, markdown(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    return 0
