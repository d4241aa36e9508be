"""`dtfsal benchmark flops` and `dtfsal benchmark latency`."""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

HELP = "measure FLOPs and latency"
EXAMPLES = """\
examples:
  dtfsal benchmark flops --preset dtfsal
  dtfsal benchmark latency --preset tiny --runs 20
  dtfsal benchmark latency --preset dtfsal --runs 5 --output benchmarks/results/latency-dtfsal-cpu.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Measure a model."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{flops,latency}")
    flops = kinds.add_parser("flops", help="parameters and operations, part by part, beside the paper's")
    flops.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    flops.add_argument(
        "--form",
        choices=("deployed", "written"),
        default="deployed",
        help="what an engine runs, or the definitional form (default: deployed)",
    )
    flops.add_argument("--json", action="store_true", help="print the result as JSON")
    latency = kinds.add_parser("latency", help="CPU latency against the plain eager form, in one interleaved run")
    latency.add_argument("--preset", default="tiny", metavar="NAME", help="the model (default: tiny)")
    latency.add_argument("--runs", type=int, default=5, metavar="N", help="timed runs of each form (default: 5)")
    latency.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: the physical cores)")
    latency.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.json",
        help="also write the JSON there, and its table beside it as .md",
    )
    latency.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    return _flops(args) if args.kind == "flops" else _latency(args)


def _flops(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.flops import count

    report = count(args.preset, form=args.form)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
        return 0
    print(f"{report.model}, one window, {report.form} form")
    print(f"{'part':<12}{'parameters, M':>15}{'GMAC, as the paper':>20}{'attention GMAC':>16}{'true GFLOP':>12}")
    for name, cost in {**report.parts, "total": report.total}.items():
        attention = (cost.attention_macs + cost.position_macs) / 1e9
        print(
            f"{name:<12}{cost.parameters / 1e6:>15.3f}{cost.macs / 1e9:>20.2f}{attention:>16.2f}"
            f"{cost.true_flops / 1e9:>12.2f}"
        )
    if rows := report.beside_paper():
        print("beside the paper (Tables 1, 2 and 5), whose GFLOPs fit the deployed form:")
        for name, ours, theirs in rows:
            print(f"  {name:<24}{ours:>10.2f}  paper {theirs:>8.2f}  {100 * (ours / theirs - 1):+.2f} %")
    return 0


def _latency(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.latency import BUSY_CORES, latency, markdown
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.writer import atomic_output

    if args.runs < 1:
        raise UsageError(f"--runs must be at least 1, not {args.runs}")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads must be at least 1, not {args.threads}")
    if args.output and args.output.suffix != ".json":
        raise UsageError(f"--output must end in .json, not {args.output.name!r}: its table goes beside it as .md")
    command = ["dtfsal", "benchmark", "latency", "--preset", args.preset, "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with contextlib.ExitStack() as stack:
        # Opened before minutes of measuring, so that a place that cannot be written is said at once.
        paths = [args.output.with_suffix(suffix) for suffix in (".json", ".md")] if args.output else []
        files = [stack.enter_context(atomic_output(path)) for path in paths]
        bar = stack.enter_context(tqdm(total=3 * (args.runs + 1), disable=None, desc="latency", unit="run"))
        report: dict[str, Any] = latency(
            args.preset, runs=args.runs, threads=args.threads, command=command, progress=lambda: bar.update() and None
        )
        for file, text in zip(files, (json.dumps(report, indent=2) + "\n", markdown(report)), strict=False):
            file.write_text(text)
    if (report["other_cores"] or 0) > BUSY_CORES:
        print(
            f"dtfsal: warning: other processes used {report['other_cores']:.2f} cores meanwhile, which slows PyTorch "
            "far more than ONNX Runtime: measure again on a quiet machine",
            file=sys.stderr,
        )
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    return 0
