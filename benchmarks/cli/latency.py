"""`dtfsal benchmark latency`."""

import argparse

from dtfsal.benchmarks.cli._common import add_result_arguments, add_threads_argument, check_counts, result_files, show

HELP = "CPU latency against the plain eager form, in one interleaved run"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--preset", default="tiny", metavar="NAME", help="the model (default: tiny)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="timed runs of each form (default: 5)")
    add_threads_argument(parser)
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from tqdm import tqdm

    from dtfsal.benchmarks.latency import latency, markdown

    check_counts(args)
    command = ["dtfsal", "benchmark", "latency", "--preset", args.preset, "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with result_files(args.output) as write:
        with tqdm(total=3 * (args.runs + 1), disable=None, desc="latency", unit="run") as bar:
            report = latency(
                args.preset,
                runs=args.runs,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    slows = "slows PyTorch far more than ONNX Runtime"
    return show(report, markdown(report), slows, as_json=args.json)
