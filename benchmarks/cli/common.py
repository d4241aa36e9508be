"""What the kinds of `dtfsal benchmark` have in common: shared arguments, result files, the end of a report."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dtfsal.runtime.cli.common import add_trust_option
from dtfsal.runtime.cli.progress import Progress

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
    """Add --engine and --trust-engine."""
    parser.add_argument("-e", "--engine", type=Path, required=True, metavar="DIR", help="the engine's folder")
    add_trust_option(parser)


def add_video_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --video, of which `what` is the help."""
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help=what)


def add_stride_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --stride, which the kind has a default for."""
    what = f"predict every N-th frame; repeatable (default: {default})"
    parser.add_argument("--stride", type=int, action="append", metavar="N", help=what)


def add_runs_argument(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    """Add --runs; `what` says which runs."""
    parser.add_argument("--runs", type=int, default=default, metavar="N", help=f"{what} (default: {default})")


def add_native_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --engine, --trust-engine, --video and --library, of what is measured in Python and in C."""
    add_engine_argument(parser)
    add_video_argument(parser, "a clip with sound")
    parser.add_argument("--library", type=Path, metavar="FILE", help="libdtfsal.so (default: the one in the cache)")


def command_line(args: argparse.Namespace) -> list[str]:
    """The command again, to be kept with the result: each option that differs from its default.

    Files stand with their names alone: a committed result must not show the folders that it was made in.
    """
    words = ["dtfsal", "benchmark", args.kind]
    for name, value in vars(args).items():
        if name in ("kind", "parser", "output", "json") or value == args.parser.get_default(name):
            continue
        for item in value if isinstance(value, list) else [value]:
            words.append(f"--{name.replace('_', '-')}")
            if isinstance(item, Path):
                words.append(item.absolute().name)
            elif item is not True:
                words.append(f"{item:g}" if isinstance(item, float) else str(item))
    return words


def check_counts(args: argparse.Namespace) -> None:
    """Refuse counts below one."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.limits import shown

    for name in ("runs", "frames", "threads", "batch_size", "stride", "voices"):
        value = getattr(args, name, None)
        counts = value if isinstance(value, list) else [] if value is None else [value]
        for count in counts:
            if count < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {count}")
            if count > 10**6:
                raise UsageError(f"--{name.replace('_', '-')} must be at most 1000000, not {shown(count)}")


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


def measure_and_report(
    args: argparse.Namespace,
    measure: Callable[[Progress], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
    *,
    draw: Callable[[dict[str, Any]], Figure] | None = None,
    steps: int | None = None,
    unit: str = "run",
    slows: str | None = None,
) -> int:
    """Measure under a progress bar, write what --output asks for, and print the result.

    Args:
        args: the kind's arguments.
        measure: makes the report, and counts its steps on the bar; a report with its machine gets its command, too.
        markdown: makes the report's table.
        draw: makes its picture; None if it has none.
        steps: how many there are, or None if that is not known.
        unit: what a step is; empty for no bar.
        slows: what a busy machine does to the figures, in words, to warn of it; None where it does not matter.

    Returns:
        0.
    """
    with result_files(args.output, picture=draw is not None) as write:
        with Progress(steps, unit, label=args.kind) as bar:
            report = measure(bar)
        if "machine" in report:
            report["command"] = command_line(args)
        write(report, markdown(report), draw(report) if draw and args.output else None)
    if slows is not None:
        _warn_if_busy(report, slows)
    print_report(report, markdown(report), as_json=args.json)
    return 0


def _warn_if_busy(report: dict[str, Any], slows: str) -> None:
    from dtfsal.benchmarks.machine.host import BUSY_CORES

    if (report["other_cores"] or 0) > BUSY_CORES:
        print(
            f"dtfsal: warning: other processes used {report['other_cores']:.2f} cores meanwhile, which {slows}: "
            "measure again on a quiet machine",
            file=sys.stderr,
        )


def print_report(report: dict[str, Any], table: str, *, as_json: bool) -> None:
    """Print a report for programs or for people."""
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else table)
