"""`dtfsal benchmark stream`."""

import argparse

from dtfsal.benchmarks.cli._common import (
    add_native_arguments,
    add_result_arguments,
    add_threads_argument,
    check_counts,
    result_files,
    show,
)

HELP = "what live prediction costs beside the engine, in Python and in C"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="frames in each run (default: 100)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each form (default: 3)")
    add_native_arguments(parser)
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.timing.stream import markdown, stream
    from dtfsal.runtime.capi.library import NativeLibrary

    check_counts(args)
    command = ["dtfsal", "benchmark", "stream", "--engine", args.engine.name, "--video", args.video.name]
    command += ["--frames", str(args.frames), "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with result_files(args.output) as write:
        with tqdm(total=4 * args.runs, disable=None, desc="stream", unit="run") as bar:
            report = stream(
                args.engine,
                args.video,
                frames=args.frames,
                runs=args.runs,
                threads=args.threads,
                library=NativeLibrary(args.library),
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    return show(report, markdown(report), "slows everything", as_json=args.json)
