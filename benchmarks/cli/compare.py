"""`dtfsal benchmark compare`."""

import argparse
import sys
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "what became faster or slower between two results, with a significance test"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.epilog = "Exit codes: 0 compared, 1 something is slower and --fail-if-slower, 2 wrong usage."
    parser.add_argument("before", type=Path, metavar="A.json", help="a result")
    parser.add_argument("after", type=Path, metavar="B.json", help="the later result")
    parser.add_argument(
        "--minimum", type=float, default=2.0, metavar="PERCENT", help="the least change that counts (default: 2)"
    )
    parser.add_argument("--across-machines", action="store_true", help="compare results of different machines")
    parser.add_argument("--fail-if-slower", action="store_true", help="exit with 1 if a row is slower")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare; errors are for the caller to print."""
    from dtfsal.benchmarks.report.compare import compare, markdown, other_machine, read_result
    from dtfsal.engines.errors import UsageError

    if not 0 <= args.minimum < 100:
        raise UsageError(f"--minimum must be in [0, 100), not {args.minimum}")
    before, after = read_result(args.before), read_result(args.after)
    if difference := other_machine(before, after):
        if not args.across_machines:
            raise UsageError(f"{difference}; use --across-machines to compare them anyway")
        print(f"dtfsal: warning: {difference}", file=sys.stderr)
    rows = compare(before, after, minimum=args.minimum / 100)
    if not rows:
        raise UsageError(f"{args.before} and {args.after} have no form in common: give two results of one benchmark")
    common.print_report({"kind": "compare", "rows": rows}, markdown(rows), as_json=args.json)
    return int(args.fail_if_slower and any(row["verdict"] == "slower" for row in rows))
