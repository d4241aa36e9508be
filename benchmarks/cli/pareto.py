"""`dtfsal benchmark pareto`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli._common import add_result_arguments, add_threads_argument, check_counts, result_files, show

HELP = "accuracy against speed: engines and strides beside the full-rate maps of an fp32 engine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument(
        "-e", "--engine", type=Path, action="append", required=True, metavar="DIR", help="an engine; repeatable"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="the fp32 engine whose maps are the reference (default: the first)",
    )
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip")
    parser.add_argument(
        "--stride", type=int, action="append", metavar="N", help="predict every N-th frame; repeatable (default: 1 2 4)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each choice (default: 3)")
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.accuracy.pareto import draw, markdown, pareto
    from dtfsal.engines.errors import UsageError

    check_counts(args)
    strides = tuple(dict.fromkeys(args.stride or (1, 2, 4)))
    if min(strides) < 1:
        raise UsageError(f"--stride must be at least 1, not {min(strides)}")
    reference = args.reference or args.engine[0]
    command = ["dtfsal", "benchmark", "pareto", "--reference", reference.name, "--video", args.video.name]
    command += [word for engine in args.engine for word in ("--engine", engine.name)]
    command += [word for stride in strides for word in ("--stride", str(stride))] + ["--runs", str(args.runs)]
    with result_files(args.output, picture=True) as write:
        total = 1 + args.runs * len(strides) * len(args.engine)
        with tqdm(total=total, disable=None, desc="pareto", unit="run") as bar:
            report = pareto(
                args.engine,
                args.video,
                reference=reference,
                strides=strides,
                runs=args.runs,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report), draw(report) if args.output else None)
    return show(report, markdown(report), "slows everything", as_json=args.json)
