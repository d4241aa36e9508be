"""`dtfsal recommend`: the engine and stride that keep up with a video on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtfsal.benchmarks.accuracy.recommend import Candidate

HELP = "say which engine and stride keep up with a frame rate, from measured accuracy and speed"
EXAMPLES = """\
examples:
  dtfsal recommend --fps 25
  dtfsal recommend --fps 25 --min-cc 0.99
  dtfsal recommend --fps 10 --results mine/pareto-lite.json      results of your own: `dtfsal benchmark pareto`

Exit codes: 0 there is one, 1 nothing is fast and accurate enough (the nearest is printed), 2 wrong usage.
"""
ALTERNATIVES = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = HELP[0].upper() + HELP[1:] + "."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--fps", type=float, required=True, metavar="N", help="source frames per second to keep up with"
    )
    parser.add_argument(
        "--min-cc", type=float, default=0.995, metavar="X", help="least CC to full-rate fp32 maps (default: 0.995)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="the device that will run it (default: cpu)"
    )
    parser.add_argument("--model", metavar="NAME", help="the model (needed if the results are of several)")
    parser.add_argument(
        "--results",
        type=Path,
        action="append",
        metavar="PATH",
        help="a result of `dtfsal benchmark pareto`, or a folder of them; repeatable (default: those of the package)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Choose; errors are for the caller to print."""
    from dtfsal.benchmarks.accuracy.recommend import (
        SHIPPED,
        choose,
        estimates,
        measured_here,
        of_one_model,
        read_results,
    )
    from dtfsal.benchmarks.machine.hardware import fingerprint, hardware
    from dtfsal.engines.cpu.threads import default_threads
    from dtfsal.engines.errors import UsageError

    if not (0 < args.fps < 1e6 and -1 <= args.min_cc <= 1):
        raise UsageError("--fps must be positive, and --min-cc in [-1, 1]")
    reports = read_results(args.results or [SHIPPED])
    found = measured_here(reports, device=args.device, fingerprint=fingerprint(hardware()))
    if not found and args.device == "cpu":
        from dtfsal.benchmarks.machine.rates import matrix_product_rate

        found = estimates(reports, rate=matrix_product_rate(default_threads()))
    if not found:
        raise UsageError(
            f"no result has a row for the device {args.device!r} of this machine: measure one with "
            "`dtfsal benchmark pareto` and give it with --results"
        )
    choice, others = choose(of_one_model(found, args.model), fps=args.fps, least_cc=args.min_cc)
    if args.json:
        alternatives = [one.to_dict() for one in others[:ALTERNATIVES]]
        result = {"fps": args.fps, "min_cc": args.min_cc, "choice": choice and choice.to_dict(), "next": alternatives}
        print(json.dumps(result, indent=2))
    else:
        _print(choice, others[:ALTERNATIVES], args.fps, args.min_cc)
    return 0 if choice else 1


def _print(choice: Candidate | None, others: Sequence[Candidate], fps: float, least_cc: float) -> None:
    """The choice and why it is one, or that there is none; what comes next; the best one's commands."""
    if choice is None:
        print(f"nothing measured reaches {fps:g} frames/s at CC {least_cc:g}; the nearest:", file=sys.stderr)
    else:
        print(f"nearest to the full-rate fp32 maps of all that reach {fps:g} frames/s at CC {least_cc:g}:")
    shown = [*([choice] if choice else []), *others]
    for one in shown:
        mark = "->" if one is choice else "  "
        print(f"{mark} {one.row['form']}: at least {one.frames_per_second:.3g} frames/s, CC {one.row['cc']:.5f}")
    best = shown[0]
    if best.scale is None:
        print(f"measured on this kind of machine: {best.source}")
    else:
        print(f"estimates: measured on another machine, times {best.scale:.2f}, the ratio of the two machines' rates")
        print(f"of matrix products ({best.source}); `dtfsal benchmark pareto` measures here")
    for command in best.commands():
        print(f"  {command}")
