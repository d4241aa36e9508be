"""`dtfsal predict --output-dir`: many videos in one run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import UsageError, printable
from dtfsal.runtime.cli import common
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.runtime.batch.run import Outcome
    from dtfsal.runtime.batch.sources import Source

_MIB = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of runs over many videos."""
    group = parser.add_argument_group("several videos")
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        help="predict all videos that are given, and write each one's results below DIR, whose tree mirrors theirs",
    )
    group.add_argument(
        "--workers",
        type=common.positive_int,
        metavar="N",
        help="processes, each with an engine of its own; --threads is then per process (default: one for each physical "
        "core, with one thread; one on a GPU)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="leave out videos that an earlier run finished, by their content and the settings",
    )
    group.add_argument(
        "--shard", metavar="I/N", help="do the I-th of N parts of the videos, as one of N machines, I from 1"
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the arguments are of a run over many videos.

    Raises:
        UsageError: they are of neither form.
    """
    if args.output_dir is None:
        if len(args.videos) > 1:
            raise UsageError("several videos need --output-dir DIR for their results")
        given = [name for name in ("workers", "resume", "shard") if getattr(args, name)]
        if given:
            raise UsageError(f"--{given[0]} is for runs with --output-dir DIR")
        return False
    if args.output or args.contact_sheet is not None:
        raise UsageError("-o and --contact-sheet are for a single video; with --output-dir, --format names the outputs")
    if not args.output_dir or any(os.path.realpath(name) == os.path.realpath(args.output_dir) for name in args.videos):
        raise UsageError(f"--output-dir {args.output_dir!r} is among the videos; name another folder for the results")
    return True


def run(args: argparse.Namespace) -> int:
    """Predict all videos; a failed one is told, and the others go on."""
    from dtfsal.runtime.batch.run import Run, exit_code, write_summary
    from dtfsal.runtime.batch.settings import Settings
    from dtfsal.runtime.batch.sources import find_sources, parse_shard, take_shard

    started = time.perf_counter()
    shard = None if args.shard is None else parse_shard(args.shard)
    sources = find_sources(args.videos)
    if shard is not None:
        sources = take_shard(sources, shard)
    settings = Settings.of(
        args.engine,
        kinds=tuple(dict.fromkeys(args.format or ["video"])),
        stride=args.stride,
        padding=args.padding,
        smoothing=args.smoothing,
        normalisation=args.normalisation,
        map_size=args.map_size,
        view=args.view,
        video_stream=args.video_stream,
        audio_stream=args.audio_stream,
    )
    many = Run(
        settings=settings,
        folder=Path(args.output_dir),
        workers=args.workers,
        threads=args.threads,
        device=args.device,
        trust=args.trust_engine,
        resume=args.resume,
        force=args.force,
    )
    sizes = {source: _size(source.path) for source in sources}
    with Progress(max(1, round(sum(sizes.values()) / _MIB)), "MiB", wanted=not args.quiet) as progress:
        told = _Told(progress, sizes)
        outcomes = many(sources, told)
    name = "summary" if shard is None else f"summary-{shard[0]}-of-{shard[1]}"
    seconds = time.perf_counter() - started
    path = write_summary(many.folder, name, settings, outcomes, seconds)
    if args.json:
        common.print_json(_document(outcomes, path, seconds))
    elif not args.quiet:
        _print(outcomes, path, seconds)
    return exit_code(outcomes)


class _Told:
    """Events of a run, on the bar; failures also as lines, so that a log has them at once."""

    def __init__(self, progress: Progress, sizes: dict[Source, int]) -> None:
        self._progress = progress
        self._sizes = sizes
        self._shares: dict[Source, float] = {}
        self._shown = 0
        self._ended = self._failed = 0

    def __call__(self, kind: str, source: Source, value: Any) -> None:
        if kind == "again":
            _say(f"{source.path}: its process ended with exit code {value}; trying once more")
            self._shares[source] = 0.0
        elif kind == "share":
            self._shares[source] = value
        else:
            self._shares[source] = 1.0
            self._ended += 1
            if value.status == "failed":
                self._failed += 1
                _say(f"failed: {value.error}")
        done = round(sum(self._sizes[one] * share for one, share in self._shares.items()) / _MIB)
        note = f"{self._ended} of {len(self._sizes)} videos" + (f", {self._failed} failed" if self._failed else "")
        self._progress.step(note, count=done - self._shown)
        self._shown = done


def _say(text: str) -> None:
    print(f"dtfsal: {printable(text)}", file=sys.stderr)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _document(outcomes: list[Outcome], path: Path, seconds: float) -> dict[str, Any]:
    from dtfsal.runtime.batch.run import counts

    failed = {outcome.video: outcome.error for outcome in outcomes if outcome.status == "failed"}
    return {"summary": str(path), **counts(outcomes), "seconds": round(seconds, 3), "failures": failed}


def _print(outcomes: list[Outcome], path: Path, seconds: float) -> None:
    from dtfsal.runtime.batch.run import counts

    found = counts(outcomes)
    common.print_table(
        [
            ("videos", f"{found['done']} done, {found['skipped']} skipped, {found['failed']} failed"),
            ("frames", found["frames"]),
            ("time", common.format_seconds(seconds)),
            ("speed", f"{found['frames'] / max(seconds, 1e-9):.2f} frames/s"),
            ("summary", path),
        ]
    )
