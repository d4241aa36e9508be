"""The check of prepared videos: whether each file is the one that was prepared, and whole."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.training.data.check_frame_folders import sound_faults
from dtfsal.training.data.faults import Begin, Fault, SplitReport, frames_text, no_progress
from dtfsal.training.data.layouts import Split
from dtfsal.training.data.prepare_videos import sha256_of
from dtfsal.training.data.prepared_videos import PreparedVideo, index_path, read_index
from dtfsal.training.data.stills import DataError


def check_prepared_videos(
    items: Sequence[PreparedVideo],
    split: Split,
    *,
    quick: bool,
    known: Collection[str] = (),
    begin: Begin = no_progress,
) -> SplitReport:
    """Look at every file of a split.

    Args:
        items: its videos, there or not.
        split: its name.
        quick: only see which files are there, and of what size.
        known: videos that need not be looked at.
        begin: told of progress.
    """
    step = begin(len(items))
    faults: list[Fault] = []
    for item in items:
        if item.name not in known:
            faults += _check(item, quick=quick)
        step()
    there = [item for item in items if item.path.is_file()]
    frames = sum(item.frame_count for item in there)
    read = 0 if quick else 3 * len(there)
    return SplitReport(split, None, tuple(item.name for item in there), frames, read, tuple(faults))


def _check(item: PreparedVideo, *, quick: bool) -> Iterator[Fault]:
    entry, table = item.entry, item.root / item.entry.fixations
    index = index_path(item.root, item.name)
    if not item.path.is_file():
        yield Fault("missing-video", item.name, item.path, "is not there")
    elif item.path.stat().st_size != entry.file_bytes:
        yield Fault(
            "stale",
            item.name,
            item.path,
            f"is not the file that was prepared; run `dtfsal prepare {item.dataset}` again",
        )
    elif not quick:
        yield from _check_video(item)
    if not entry.fixations:
        return
    if not table.is_file():
        yield Fault("no-fixations", item.name, table, "is not there")
    elif not quick:
        yield from _check_table(item, table)
    if not index.is_file():
        yield Fault("stale", item.name, index, f"is not there; run `dtfsal prepare {item.dataset}` again")
    elif not quick:
        yield from _check_index(item, index)


def _check_video(item: PreparedVideo) -> Iterator[Fault]:
    count = 0
    try:
        with VideoReader(item.path) as reader:
            for _frame in reader:
                count += 1
            damaged = reader.concealed_frames + reader.skipped_frames
    except MediaError as error:
        yield Fault("unreadable", item.name, item.path, f"cannot be read as a video ({error})")
        return
    if damaged:
        yield Fault("unreadable", item.name, item.path, f"{damaged} of its frames are damaged")
    if count != item.frame_count:
        message = f"has {count} frames, and had {item.frame_count} when it was prepared"
        yield Fault("stale", item.name, item.path, message)
    if item.has_sound:
        yield from sound_faults(item.path, item.name, count / item.frame_rate_hz, item.entry.start_seconds)


def _check_table(item: PreparedVideo, table: Path) -> Iterator[Fault]:
    try:
        item.read_source()
    except DataError as error:
        yield Fault("unreadable", item.name, table, str(error))
        return
    if sha256_of(table) != item.entry.fixations_sha256:
        message = f"has changed since it was prepared; run `dtfsal prepare {item.dataset}` again"
        yield Fault("stale", item.name, table, message)


def _check_index(item: PreparedVideo, path: Path) -> Iterator[Fault]:
    try:
        index, gaze = read_index(path)
    except DataError as error:
        yield Fault("unreadable", item.name, path, str(error))
        return
    if len(index.times_seconds) != item.frame_count or index.size != item.size:
        yield Fault("stale", item.name, path, f"is of another video; run `dtfsal prepare {item.dataset}` again")
        return
    pixels = np.floor(gaze.points + 0.5)
    inside = ((pixels >= 0) & (pixels < (item.size[1], item.size[0]))).all(axis=1)
    seen = np.add.reduceat(np.append(inside, False).astype(int), gaze.offsets[:-1])
    seen[gaze.offsets[:-1] == gaze.offsets[1:]] = 0  # what reduceat makes of empty ranges is their first element
    empty = np.flatnonzero(seen == 0).tolist()
    if empty:
        message = f"{frames_text(empty)}: no position lies in the frame"
        yield Fault("empty-map", item.name, item.root / item.entry.fixations, message)
