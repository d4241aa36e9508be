"""CrowdSAL and the challenges' videos, as published, to a dataset's folder: an index of each file, beside them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.partial import held
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.training.data.faults import problems_text
from dtfsal.training.data.gaze_table import FrameGaze
from dtfsal.training.data.map_videos import MapVideos, PublishedVideo, maps_index_path, read_frame_points
from dtfsal.training.data.prepare_videos import sha256_of
from dtfsal.training.data.prepared_videos import VideoEntry, VideoTable, index_path, read_index, write_index
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_frames import count_frames, index_frames


def prepare_map_videos(
    dataset: MapVideos,
    root: Path,
    *,
    workers: int | None = None,
    progress: Callable[[str], None] = lambda _what: None,
) -> VideoTable:
    """Compare counts, then index every video and its maps. What was indexed before is passed over.

    Args:
        dataset: which.
        root: its folder, as published.
        workers: threads; None for one for each core.
        progress: called after each video, with "videos counted" or "videos indexed".

    Raises:
        DataError: a part is missing, or counts differ; then nothing has been indexed.
    """
    videos = dataset.published(root)
    with held(root / "dataset.json"), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        problems = []
        for found in pool.map(_count_problem, videos):
            problems += [found] if found else []
            progress("videos counted")
        if problems:
            raise DataError(f"{problems_text(problems)}; restore them from {dataset.title}")
        (root / "index").mkdir(exist_ok=True)
        entries = []
        for entry in pool.map(lambda video: _prepare(root, video), videos):
            entries.append(entry)
            progress("videos indexed")
    table = VideoTable(videos=tuple(entries))
    with atomic_output(root / "dataset.json") as file:
        file.write_text(table.to_json(), encoding="utf-8")
    return table


def _count_problem(video: PublishedVideo) -> str | None:
    """What does not fit between a video, its maps and its fixations, in a sentence."""
    try:
        told = {}
        if video.fixations is not None:
            told["frames of fixations"] = (video.fixations, len(read_frame_points(video.fixations).offsets) - 1)
        expected = next(iter(told.values()))[1] if told else 0
        if video.maps is not None:
            told["maps"] = (video.maps, count_frames(video.maps, expected))
        if not told:
            return None if video.split == "test" else f"{video.video} has neither maps nor fixations"
        frames = count_frames(video.video, expected)
    except DtfsalError as error:
        return str(error)
    for what, (path, count) in told.items():
        if count != frames:
            return f"{video.video} has {frames} frames, and {path} holds {count} {what}"
    return None


def _prepare(root: Path, video: PublishedVideo) -> VideoEntry:
    gaze = None if video.fixations is None else read_frame_points(video.fixations)
    own = index_path(root, video.name)
    _index(video.video, own, gaze)
    if video.maps is not None:
        _index(video.maps, maps_index_path(root, video.name), None)
    count = len(read_index(own)[0].times_seconds)
    try:
        with VideoReader(video.video) as reader:
            info = reader.info
    except MediaError as error:
        raise DataError(f"{video.video} cannot be read ({error}); restore it") from error
    return VideoEntry(
        name=video.name,
        file=str(video.video.relative_to(root)),
        fixations="" if video.fixations is None else str(video.fixations.relative_to(root)),
        split=video.split,
        frame_count=count,
        frame_rate_hz=1 / info.frame_interval_seconds,
        height=info.height,
        width=info.width,
        has_sound=info.has_audio,
        start_seconds=info.start_seconds,
        file_bytes=video.video.stat().st_size,
        fixations_sha256="" if video.fixations is None else sha256_of(video.fixations),
        observers=0 if gaze is None else int(np.diff(gaze.offsets).max(initial=0)),
    )


def _index(path: Path, place: Path, gaze: FrameGaze | None) -> None:
    if place.is_file():
        return
    try:
        _, index = index_frames(path)
    except MediaError as error:
        raise DataError(f"{path} cannot be decoded ({error}); restore it") from error
    count = len(index.times_seconds)
    none = FrameGaze(np.zeros(count + 1, np.int64), np.empty((0, 2), np.float32), 0)
    if gaze is not None and len(gaze.offsets) != count + 1:
        raise DataError(f"{path} decodes to {count} frames, and has fixations of {len(gaze.offsets) - 1}; restore it")
    with atomic_output(place) as partial:
        write_index(partial, index, none if gaze is None else gaze)
