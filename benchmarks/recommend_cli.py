"""`dtfsal recommend`: the engine and stride that keep up with a video on this machine."""

import argparse
import json
import sys
from pathlib import Path

HELP = "say which engine and stride keep up with a frame rate, from measured accuracy and speed"
EXAMPLES = """\
examples:
  dtfsal recommend --fps 25
  dtfsal recommend --fps 25 --min-cc 0.99
  dtfsal recommend --fps 10 --results mine/pareto-lite.json      results of your own: `dtfsal benchmark pareto`

Exit codes: 0 there is one, 1 nothing meets the wish (the nearest is told), 2 wrong usage.
"""
ALTERNATIVES = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = HELP[0].upper() + HELP[1:] + "."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--fps", type=float, required=True, metavar="N", help="source frames per second to keep up with"
    )
    parser.add_argument(
        "--min-cc", type=float, default=0.995, metavar="X", help="least CC to full-rate fp32 maps (default: 0.995)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what is to run it (default: cpu)")
    parser.add_argument(
        "--results",
        type=Path,
        action="append",
        metavar="PATH",
        help="a result of `dtfsal benchmark pareto`, or a folder of such; repeat it (default: those of the package)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Choose; errors are for the caller to print."""
    from dtfsal.benchmarks.hardware import fingerprint, hardware
    from dtfsal.benchmarks.machine_rates import matrix_product_rate
    from dtfsal.benchmarks.recommend import SHIPPED, candidates, choose, read_results
    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.threads import default_threads

    if not (args.fps > 0 and args.fps < 1e6 and -1 <= args.min_cc <= 1):
        raise UsageError("--fps must be positive, and --min-cc in [-1, 1]")
    reports = read_results(args.results or [SHIPPED])
    here = fingerprint(hardware())
    same = any(report["machine"].get("fingerprint") == here for _, report in reports)
    rate = None if same else matrix_product_rate(default_threads())
    found = candidates(reports, device=args.device, fingerprint=here, rate=rate)
    if not found:
        raise UsageError(
            f"no result has a row for the device {args.device!r}: measure one with `dtfsal benchmark pareto`"
        )
    choice, others = choose(found, fps=args.fps, least_cc=args.min_cc)
    shown = ([choice] if choice else []) + list(others[:ALTERNATIVES])
    if args.json:
        alternatives = [one.to_dict() for one in others[:ALTERNATIVES]]
        result = {"fps": args.fps, "min_cc": args.min_cc, "choice": choice and choice.to_dict(), "next": alternatives}
        print(json.dumps(result, indent=2))
        return 0 if choice else 1
    if choice is None:
        print(f"nothing measured reaches {args.fps:g} frames/s at CC {args.min_cc:g}; the nearest:", file=sys.stderr)
    for one in shown:
        mark = "->" if one is choice else "  "
        guess = f", estimated from another machine's {one.source}" if one.estimated else f" ({one.source})"
        print(f"{mark} {one.row['form']}: at least {one.frames_per_second:.3g} frames/s, CC {one.row['cc']:.5f}{guess}")
    for command in shown[0].commands():
        print(f"   {command}")
    return 0 if choice else 1
