"""`python -m dtfsal.export.report`: draw a layer report again, with the times of a run."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dtfsal.engines.errors import DtfsalError
from dtfsal.export.report.layers import read_profile, read_report, with_profile
from dtfsal.export.report.picture import draw_report


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a report again, with times if there are any."""
    parser = argparse.ArgumentParser(prog="python -m dtfsal.export.report", description=main.__doc__)
    parser.add_argument("report", type=Path, help="report.json of an engine that was built with --report")
    parser.add_argument("--times", type=Path, metavar="FILE", help="what trtexec --exportProfile wrote")
    parser.add_argument("--output", type=Path, metavar="PNG", help="default: beside the report")
    args = parser.parse_args(argv)
    try:
        report = read_report(args.report)
        if args.times is not None:
            report = with_profile(report, read_profile(args.times))
        draw_report(report).save(args.output or args.report.with_suffix(".png"))
    except (DtfsalError, OSError, ValueError) as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
