"""`dtfsal benchmark layers`."""

import argparse

from dtfsal.benchmarks.cli._common import (
    add_engine_argument,
    add_result_arguments,
    add_threads_argument,
    check_counts,
    result_files,
    show,
)

HELP = "where an ONNX Runtime engine's time goes, layer by layer: share, GFLOP/s, share of the machine's peak"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    add_engine_argument(parser)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="profiled runs of each graph (default: 3)")
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.timing.layers import draw, layers, markdown

    check_counts(args)
    command = ["dtfsal", "benchmark", "layers", "--engine", args.engine.name, "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with result_files(args.output, picture=True) as write:
        with tqdm(disable=None, desc="layers", unit="run") as bar:
            report = layers(
                args.engine,
                runs=args.runs,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report), draw(report) if args.output else None)
    return show(report, markdown(report), "slows everything", as_json=args.json)
