"""Reports as folders: of one clip, and of two edits side by side.

with SaliencyPredictor() as predictor:
    make_report(predictor, "clip.mp4", "report", areas="areas.json")
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from dtfsal.applications.report.measures import GENERAL
from dtfsal.applications.report.packing import write_page
from dtfsal.applications.report.tables import require_parquet, write_areas_csv
from dtfsal.applications.report.track import Options, Track, follow, probe_with_areas
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.sinks.pictures import atomic_folder, check_folder

Align = Literal["time", "frames"]
CAVEAT = "A prediction, not a measurement: a model computed where people would probably look; no eyes were tracked."
_NAME = re.compile(r"(index\.html|report\.json|differences\.csv|([ab]-)?(frames\.(csv|parquet)|areas\.csv|video\.mp4))")
_WHAT = "a report's file"
Name = str | os.PathLike[str]


def check_report_folder(folder: Name, *, overwrite: bool) -> None:
    """Check, before any work, that a report may be written there.

    Raises:
        UsageError: there is one already, and overwriting is not asked for; or it lies in an engine's folder.
        OutputError: something else is there.
    """
    path = Path(folder)
    check_folder(path, _NAME.fullmatch, _WHAT)
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path} holds a report; name another folder, or give --force to replace it")


def make_report(
    predictor: SaliencyPredictor,
    video: Name,
    folder: Name,
    *,
    areas: Name | None = None,
    options: Options | None = None,
    on_frame: Callable[[object], object] = lambda _frame: None,
) -> dict[str, Any]:
    """Predict a clip and write its report: the page, a table of frames and one of areas, and `report.json`.

    The folder appears whole or not at all; one that holds an older report is replaced.

    Args:
        predictor: of the maps.
        video: the clip.
        folder: of the report.
        areas: a file of areas of interest; see `dtfsal.applications.areas.files.read_areas`.
        options: what else is asked for.
        on_frame: called after each frame, in the caller's thread.

    Returns:
        What `report.json` holds.

    Raises:
        MediaError: the clip cannot be read.
        UsageError: an argument or the areas can't work.
        OutputError: the folder cannot be written.
        UnavailableError: Parquet is asked for, and pyarrow is absent.
    """
    options = options or Options()
    if options.parquet:
        require_parquet()
    info, read = probe_with_areas(video, areas, options)
    with atomic_folder(Path(folder), _NAME.fullmatch, _WHAT) as partial:
        track = follow(predictor, info, read, partial, options, on_frame=on_frame)
        if read:
            write_areas_csv(partial / "areas.csv", track.summaries)
        document = {**_of_the_run(predictor, options), **track.document()}
        title = f"Attention in {track.name}"
        write_page(partial / "index.html", [track], _facts(title, predictor, options, [track], "time"))
        _write_json(partial / "report.json", document)
    return document


def make_comparison(
    predictor: SaliencyPredictor,
    videos: tuple[Name, Name],
    folder: Name,
    *,
    align: Align = "time",
    areas: tuple[Name | None, Name | None] = (None, None),
    options: Options | None = None,
    on_frame: Callable[[object], object] = lambda _frame: None,
) -> dict[str, Any]:
    """Predict two edits and write a page with both, the tables of each, and `differences.csv`.

    Args:
        predictor: of the maps.
        videos: the two clips, A and B.
        folder: of the report; it appears whole or not at all.
        align: what of B stands beside a frame of A: the frame that is shown at its time, or the one of its number. Only
            what both have is compared.
        areas: a file of areas for each; areas of one name are compared.
        options: what else is asked for.
        on_frame: called after each frame, in the caller's thread.

    Returns:
        What `report.json` holds.

    Raises:
        MediaError: a clip cannot be read.
        UsageError: an argument or the areas can't work.
        OutputError: the folder cannot be written.
        UnavailableError: Parquet is asked for, and pyarrow is absent.
    """
    options = options or Options()
    if options.parquet:
        require_parquet()
    clips = [probe_with_areas(video, file, options) for video, file in zip(videos, areas, strict=True)]
    with atomic_folder(Path(folder), _NAME.fullmatch, _WHAT) as partial:
        tracks = [
            follow(predictor, info, read, partial, options, prefix=f"{letter}-", on_frame=on_frame)
            for letter, (info, read) in zip("ab", clips, strict=True)
        ]
        for letter, track in zip("ab", tracks, strict=True):
            if track.areas:
                write_areas_csv(partial / f"{letter}-areas.csv", track.summaries)
        _write_differences(partial, tracks, align)
        document = {
            **_of_the_run(predictor, options),
            "align": align,
            "a": tracks[0].document(),
            "b": tracks[1].document(),
            "differences": _differences(tracks),
        }
        title = f"Attention in {tracks[0].name} and {tracks[1].name}"
        write_page(partial / "index.html", tracks, _facts(title, predictor, options, tracks, align))
        _write_json(partial / "report.json", document)
    return document


def _of_the_run(predictor: SaliencyPredictor, options: Options) -> dict[str, Any]:
    manifest = predictor.engine.manifest
    return {
        "caveat": CAVEAT,
        "engine": {
            "model": manifest.model_name,
            "precision": manifest.precision,
            "weights": manifest.weights["source"],
        },
        "stride": predictor.stride,
        "level": options.level,
        "uncertainty": options.uncertainty,
    }


def _facts(
    title: str, predictor: SaliencyPredictor, options: Options, tracks: list[Track], align: Align
) -> dict[str, Any]:
    manifest = predictor.engine.manifest
    words = [f"predicted by {manifest.model_name} ({manifest.precision})"]
    if manifest.weights["source"].lower().startswith("random"):
        words.append("its weights are random, so the maps mean nothing")
    for letter, track in zip("AB", tracks, strict=False):
        of = f"{letter}: " if len(tracks) > 1 else ""
        sound = {"used": "with its sound", "silence": "without sound", "unused": "by the picture alone"}[track.sound]
        words.append(
            f"{of}{track.frames} frames, {track.seconds:.2f} s, {track.info.width}x{track.info.height}, {sound}"
        )
    if predictor.stride > 1:
        words.append(f"every {predictor.stride}th frame predicted, and those between interpolated")
    if any(track.samples.step > 1 for track in tracks):
        steps = " and ".join(str(track.samples.step) for track in tracks)
        words.append(f"this page shows one map for {steps} frames, and means of the series; frames.csv has every frame")
    if len(tracks) > 1:
        words.append(f"aligned by {align}")
    return {
        "title": title,
        "facts": " ".join(f"{text[0].upper()}{text[1:]}." for text in words),
        "level": options.level,
        "align": align,
        "banded": options.uncertainty,
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _differences(tracks: list[Track]) -> list[dict[str, Any]]:
    """Areas that both have: their shares, and B's less A's."""
    first, second = ({summary.name: summary.share for summary in track.summaries} for track in tracks)
    return [
        {"name": name, "share_a": share, "share_b": second[name], "difference": second[name] - share}
        for name, share in first.items()
        if name in second
    ]


def _write_differences(folder: Path, tracks: list[Track], align: Align) -> None:
    """A row for each frame of A that B has something beside: B's values less A's; empty where an area is hidden."""
    names = [*GENERAL, *(f"share {row['name']}" for row in _differences(tracks))]
    with (
        (folder / "a-frames.csv").open(encoding="utf-8", newline="") as of_a,
        (folder / "b-frames.csv").open(encoding="utf-8", newline="") as of_b,
        (folder / "differences.csv").open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["index_a", "index_b", "time_seconds", *names])
        end = tracks[1].seconds
        for row, beside in _aligned(csv.DictReader(of_a), csv.DictReader(of_b), align, end):
            changes = [float(beside[name]) - float(row[name]) if row[name] and beside[name] else None for name in names]
            writer.writerow([row["index"], beside["index"], row["time_seconds"], *changes])


def _aligned(
    rows: Iterator[dict[str, str]], others: Iterator[dict[str, str]], align: Align, end_seconds: float
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Each row of A with the one of B that stands beside it, until either ends."""
    if align == "frames":
        yield from zip(rows, others, strict=False)
        return
    shown = next(others)
    following = next(others, None)
    for row in rows:
        time = float(row["time_seconds"])
        while following is not None and float(following["time_seconds"]) <= time + 1e-6:
            shown, following = following, next(others, None)
        if time >= end_seconds:
            return
        yield row, shown
