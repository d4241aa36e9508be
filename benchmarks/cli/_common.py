"""What the kinds of `dtfsal benchmark` have in common: shared arguments, result files, the end of a report."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --output and --json."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.json",
        help="also write the JSON to this file, and its table beside it as .md",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: the physical cores)")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """Add --engine."""
    parser.add_argument("-e", "--engine", type=Path, required=True, metavar="DIR", help="the engine's folder")


def add_native_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --engine, --video and --library, of what is measured in Python and in C."""
    add_engine_argument(parser)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip with sound")
    parser.add_argument("--library", type=Path, metavar="FILE", help="libdtfsal.so (default: the one in the cache)")


def check_counts(args: argparse.Namespace) -> None:
    """Refuse counts below one."""
    from dtfsal.engines.errors import UsageError

    for name in ("runs", "frames", "threads", "batch_size"):
        count = getattr(args, name, None)
        if count is not None and count < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {count}")


class ResultWriter(Protocol):
    """What `result_files` gives."""

    def __call__(self, report: dict[str, Any], table: str, figure: Figure | None = None) -> None:
        """Write a report, its table, and its picture if there is one; nothing where no output was asked for."""
        ...


@contextlib.contextmanager
def result_files(output: Path | None, *, picture: bool = False) -> Iterator[ResultWriter]:
    """What writes a report, its table and its picture; it is opened first, so that a bad place is said at once.

    Args:
        output: FILE.json; the table goes beside it as FILE.md, the picture as FILE.png and FILE.svg.
        picture: whether there is going to be one.
    """
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.media.writer import atomic_output

    if output and output.suffix != ".json":
        raise UsageError(f"--output must end in .json, not {output.name!r}: its table goes beside it as .md")
    with contextlib.ExitStack() as stack:
        suffixes = (".json", ".md", *((".png", ".svg") if picture else ()))
        paths = [output.with_suffix(suffix) for suffix in suffixes] if output else []
        files = {path.suffix: stack.enter_context(atomic_output(path)) for path in paths}

        def write(report: dict[str, Any], table: str, figure: Figure | None = None) -> None:
            if output is None:
                return
            files[".json"].write_text(json.dumps(report, indent=2) + "\n")
            files[".md"].write_text(table)
            if figure is not None:
                from dtfsal.benchmarks.report.figures import save

                for suffix in (".png", ".svg"):
                    save(figure, files[suffix], source=output.name)

        yield write


def show(report: dict[str, Any], table: str, slows: str, *, as_json: bool) -> int:
    """Print a report and warn if the machine was busy meanwhile; what that `slows`, in words. Returns 0."""
    from dtfsal.benchmarks.machine.host import BUSY_CORES

    if (report["other_cores"] or 0) > BUSY_CORES:
        print(
            f"dtfsal: warning: other processes used {report['other_cores']:.2f} cores meanwhile, which {slows}: "
            "measure again on a quiet machine",
            file=sys.stderr,
        )
    print_report(report, table, as_json=as_json)
    return 0


def print_report(report: dict[str, Any], table: str, *, as_json: bool) -> None:
    """Print a report for programs or for people."""
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else table)
