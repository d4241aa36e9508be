"""What commands share: options, tables for people and JSON for programs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.engines.errors import printable


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`, `--device`, `--threads` and `--trust-engine`."""
    parser.add_argument(
        "-e",
        "--engine",
        default=DEFAULT_ENGINE,
        metavar="ENGINE",
        help="an engine: the name of one that the package carries (lite, lite-int8), a folder that `dtfsal build` "
        "made, or a repository of a hub, org/name or org/name@revision (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads of the engine (default: the physical cores that the process may use)",
    )
    add_trust_option(parser)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-engine`."""
    parser.add_argument(
        "--trust-engine",
        action="store_true",
        help="run native code that the engine brings, which can do all that you can (docs/explanation/trust.md)",
    )


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Add `--video-stream` and `--audio-stream`."""
    parser.add_argument(
        "--video-stream",
        type=stream_number,
        metavar="N",
        help="the video stream to read, by its number in the file; `dtfsal info VIDEO` lists them (default: the main "
        "one)",
    )
    parser.add_argument(
        "--audio-stream",
        type=stream_number,
        metavar="N",
        help="the sound stream to read (default: the one that the file marks as default, else the first)",
    )


def add_stride_option(parser: argparse.ArgumentParser) -> None:
    """Add `--stride`."""
    parser.add_argument(
        "--stride",
        type=positive_int,
        default=1,
        metavar="N",
        help="predict every N-th frame and the last, and interpolate the maps between (default: %(default)s)",
    )


def stream_number(text: str) -> int:
    """An argparse type: a stream's number, from 0."""
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"must be a stream's number, from 0, not {text!r}")
    return int(text)


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1, and of no more than 10^9."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text[:60]!r}")
    return value


def non_negative_float(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text!r}")
    return value


def print_json(value: Any) -> None:
    """Print plain JSON values on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns; a name without a value is a heading."""
    rows = list(rows)
    width = max((len(name) for name, value in rows if value is not None), default=0)
    for name, value in rows:
        name = printable(name)
        if value is None:
            print(name)
        else:
            lines = printable(str(value)).splitlines() or [""]
            print(f"  {name:<{width}}  {lines[0]}")
            for line in lines[1:]:
                print(f"  {'':<{width}}  {line}")


def format_bytes(count: int) -> str:
    """A size for people: 187.3 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration for people: 0.42 s, 12.3 s, 3:07 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def join_or(names: Sequence[str]) -> str:
    """Names as an English list with "or"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held at once (resident set), or None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        # Linux hands what `getrusage` tells on from a process to those it starts; this figure is the process's own.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
