"""`dtfsal benchmark budget`."""

import argparse
import json
import sys
from pathlib import Path

from dtfsal.runtime.cli.common import add_trust_option

HELP = "check counts that must not grow (FLOPs, nodes, sizes, allocations) against a committed budget; never wall time"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.epilog = "Exit codes: 0 within the budget, 1 over it, 2 wrong usage, 4 bad engine."
    parser.add_argument(
        "-e", "--engine", type=Path, action="append", default=[], metavar="DIR", help="also count an engine; repeatable"
    )
    add_trust_option(parser)
    parser.add_argument(
        "--program",
        type=Path,
        metavar="FILE",
        help="also count instructions of libdtfsal, by valgrind: its program `counted` (make budget builds it)",
    )
    parser.add_argument("--budget", type=Path, metavar="FILE", help="the budget (default: the package's own)")
    parser.add_argument("--update", action="store_true", help="write the counts into the budget")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(args: argparse.Namespace) -> int:
    """Count; errors are for the caller to print."""
    from dtfsal.benchmarks.count.budget import (
        BUDGET_FILE,
        allocation_counts,
        check,
        engine_counts,
        model_counts,
        read_budget,
    )
    from dtfsal.benchmarks.count.instructions import instruction_counts
    from dtfsal.engines.errors import UnavailableError
    from dtfsal.runtime.media.writer import atomic_output

    path = args.budget or BUDGET_FILE
    budget = {} if args.update and not path.exists() else read_budget(path)
    counts = model_counts()
    for engine in args.engine:
        counts |= engine_counts(engine) | allocation_counts(engine, trust=args.trust_engine)
    skipped = []
    if args.program is not None:
        try:
            instructions = instruction_counts(args.program)
        except UnavailableError as error:
            instructions, skipped = {}, [str(error)]
        known = {name: value for name, value in instructions.items() if args.update or name in budget}
        skipped += [
            f"{name} is {value}; there is no budget for it" for name, value in instructions.items() - known.items()
        ]
        counts |= known
    if args.update:
        with atomic_output(path) as file:
            file.write_text(json.dumps(dict(sorted({**budget, **counts}.items())), indent=2) + "\n")
        return 0
    wrong, shrunk = check(counts, budget)
    for line in [*(f"not checked: {line}" for line in skipped), *shrunk, *wrong]:
        print(f"dtfsal: {line}", file=sys.stderr)
    if args.json:
        report = {"kind": "budget", "counts": counts, "over": wrong, "under": shrunk, "not_checked": skipped}
        print(json.dumps(report, indent=2))
    else:
        print(f"{len(counts)} counts, {len(wrong)} over the budget, {len(shrunk)} under it")
    return 1 if wrong else 0
