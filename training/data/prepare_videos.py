"""Videos and tables of gaze to a dataset's folder: every file is read once, and what is wrong with it is named."""

import dataclasses
import hashlib
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dtfsal.engines.errors import UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.training.data.faults import problems_text
from dtfsal.training.data.gaze_table import gaze_of_frames, read_gaze
from dtfsal.training.data.layouts import Split
from dtfsal.training.data.prepared_videos import (
    VideoEntry,
    VideoTable,
    check_pixels_per_degree,
    index_path,
    picture_path,
    write_index,
)
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_frames import index_frames

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg")
JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How videos become a dataset.

    Attributes:
        pixels_per_degree: of visual angle, in pixels of the videos; None for 19/640 of each one's width.
        validation_share: of the videos, how many are for validation; which is decided by their names.
        test_share: likewise for testing.
        pictures: write every frame as a picture, too: many times the videos' size, but quicker to read at random.
    """

    pixels_per_degree: float | None = None
    validation_share: float = 0.1
    test_share: float = 0.1
    pictures: bool = False

    def __post_init__(self) -> None:
        check_pixels_per_degree(self.pixels_per_degree)
        shares = self.validation_share, self.test_share
        if not all(math.isfinite(share) and share >= 0 for share in shares) or sum(shares) > 1:
            raise UsageError(f"the shares of validation and test must be at least 0, together at most 1, not {shares}")


def prepare_videos(
    source: Path,
    output: Path,
    options: PrepareOptions,
    *,
    progress: Callable[[], None] = lambda: None,
) -> VideoTable:
    """Read every video and table of a folder, and write the index that makes a dataset of them.

    Args:
        source: a folder with `videos/` and `fixations/`.
        output: the dataset's folder: `source` itself, or a new one that the files are copied to.
        options: how.
        progress: called after each video.

    Raises:
        UsageError: `output` exists and is not `source`.
        OutputError: another run makes it.
        DataError: a part is missing or wrong; then nothing new is at `output`.
    """
    in_place = output.resolve() == source.resolve()
    if not in_place and output.exists():
        raise UsageError(f"{output} exists already; choose another place, or remove it")
    pairs = source_files(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(output) as partial:
        (partial / "index").mkdir()
        splits = choose_splits([video.stem for video, _ in pairs], options)
        entries, problems = [], []
        for video, table in pairs:
            try:
                entries.append(_prepare(video, table, partial, splits[video.stem], options))
            except (DataError, MediaError) as error:
                problems.append(str(error))
            progress()
        if problems:
            raise DataError(problems_text(problems))
        result = VideoTable(videos=tuple(entries), pixels_per_degree=options.pixels_per_degree)
        if in_place:
            (output / "dataset.json").unlink(missing_ok=True)  # it must not speak of a new index
            for part in ("index", "frames"):
                shutil.rmtree(output / part, ignore_errors=True)
                if (partial / part).is_dir():
                    shutil.move(partial / part, output / part)
            with atomic_output(output / "dataset.json") as file:
                file.write_text(result.to_json(), encoding="utf-8")
        else:
            for video, table in pairs:
                for file in (video, table):
                    target = partial / file.relative_to(source)
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, target)
            (partial / "dataset.json").write_text(result.to_json(), encoding="utf-8")
            partial.rename(output)
    return result


def source_files(source: Path) -> list[tuple[Path, Path]]:
    """The videos of a folder and their tables, by name.

    Raises:
        DataError: the folder lacks a part, two videos have one name, or a video has no table or a table no video.
    """
    if not (source / "videos").is_dir() or not (source / "fixations").is_dir():
        raise DataError(f"{source} needs the folders videos/ and fixations/; see docs/how-to/datasets.md")
    videos = sorted(path for path in (source / "videos").iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    tables = {path.stem: path for path in sorted((source / "fixations").glob("*.csv"))}
    if not videos:
        raise DataError(f"{source / 'videos'} holds no video ({', '.join(VIDEO_SUFFIXES)})")
    for first, second in itertools.pairwise(videos):
        if first.stem == second.stem:
            raise DataError(f"{first} and {second.name} have one name; rename one and its table")
    names = {video.stem for video in videos}
    for video in videos:
        if video.stem not in tables:
            raise DataError(f"{source / 'fixations' / video.stem}.csv is not there; every video needs a table of gaze")
    for name, table in tables.items():
        if name not in names:
            raise DataError(f"{table} has no video in {source / 'videos'}")
    return [(video, tables[video.stem]) for video in videos]


def choose_splits(names: list[str], options: PrepareOptions) -> dict[str, Split]:
    """A split for each name, by a hash of it: the same on every machine, whatever the order."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    test = round(options.test_share * len(names))
    validation = round(options.validation_share * len(names))
    splits: dict[str, Split] = {}
    for place, name in enumerate(ordered):
        splits[name] = "test" if place < test else "validation" if place < test + validation else "train"
    return splits


def _prepare(video: Path, table: Path, partial: Path, split: Split, options: PrepareOptions) -> VideoEntry:
    gaze = read_gaze(table)
    info, index = index_frames(video)
    by_frame = gaze_of_frames(gaze, index.times_seconds, info.frame_interval_seconds)
    inside = (np.floor(by_frame.points + 0.5) >= 0) & (np.floor(by_frame.points + 0.5) < (info.width, info.height))
    if not inside.all(axis=1).any():
        raise DataError(
            f"{table}: no position lies in a frame of {video.name} ({info.width}x{info.height}, "
            f"{len(index.times_seconds)} frames); are its units pixels and seconds?"
        )
    write_index(index_path(partial, video.stem), index, by_frame)
    if options.pictures:
        (partial / "frames" / video.stem).mkdir(parents=True)
        with VideoReader(video) as reader:
            for frame in reader:
                path = picture_path(partial, video.stem, frame.index)
                Image.fromarray(frame.rgb).save(path, quality=JPEG_QUALITY, subsampling=0)
    return VideoEntry(
        name=video.stem,
        file=f"videos/{video.name}",
        fixations=f"fixations/{table.name}",
        split=split,
        frame_count=len(index.times_seconds),
        frame_rate_hz=1 / info.frame_interval_seconds,
        height=info.height,
        width=info.width,
        has_sound=info.has_audio,
        start_seconds=info.start_seconds,
        file_bytes=video.stat().st_size,
        fixations_sha256=sha256_of(table),
        observers=gaze.observers,
    )


def sha256_of(path: Path) -> str:
    """A file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
