"""The check of a dataset of frame folders: which of its files are missing, cannot be read, or do not fit the others."""

import collections
import itertools
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import numpy as np

from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.errors import MediaError
from dtfsal.training.data.faults import Begin, Fault, SplitReport, frames_text, no_progress, ranges
from dtfsal.training.data.frame_folders import FrameFolders, FrameFolderVideo
from dtfsal.training.data.layouts import Split, VideoLists, numbered_files, pattern_parts, read_list, video_parent
from dtfsal.training.data.picture_files import read_fixation_map, read_map, read_rgb
from dtfsal.training.data.stills import DataError

SHORT_SOUND_SECONDS = 0.25
SHAPE_TOLERANCE = 0.03  # between the aspect ratios of a frame and its map, one of which may have been scaled
CHECK_RATE_HZ = 16000

Size = tuple[int, int]
T = TypeVar("T")


def check_frame_folders(
    dataset: FrameFolders,
    root: Path,
    split: Split,
    fold: int | None,
    *,
    quick: bool,
    pool: Executor,
    known: Collection[str] = (),
    begin: Begin = no_progress,
) -> SplitReport:
    """Look at every file of a split.

    Args:
        dataset: which.
        root: its folder.
        split: of a split.
        fold: of a dataset with folds.
        quick: only see which files are there.
        pool: decodes them.
        known: videos that need not be decoded, since another fold had them.
        begin: told of progress.

    Raises:
        DataError: nothing of the split is there.
    """
    source = dataset.videos
    faults: list[Fault] = []
    if isinstance(source, VideoLists):
        path = source.list_file(root, split, fold)
        try:
            faults += _check_list(source, root, split, fold)
        except DataError as error:
            kind = "bad-list" if path.is_file() else "missing-list"
            return SplitReport(split, fold, (), 0, 0, (Fault(kind, "", path, str(error)),))
    layout = dataset.layout(root, split, fold)
    listed = source.videos(root, layout, split, fold)
    missing = source.missing(root, layout, split)
    if missing:
        place = video_parent(root, layout, layout.split_folder(source.folders, split))
        videos = f"video {missing[0]} is" if len(missing) == 1 else f"{len(missing)} videos ({ranges(missing)}) are"
        faults.append(Fault("missing-video", "", place, f"{videos} not there"))
    step = begin(len(listed))
    frames = read = 0
    found: list[str] = []
    for one in listed:
        item = dataset.item(root, layout, one, split)
        checked = _VideoCheck(item, annotated=split in dataset.annotated)
        faults += checked.presence()
        if item.frame_files:
            found.append(item.name)
            frames += len(item.numbers)
        if not quick and item.frame_files and item.name not in known:
            faults += checked.contents(pool)
            read += checked.files_read
        step()
    return SplitReport(split, fold, tuple(found), frames, read, tuple(faults))


def _check_list(source: VideoLists, root: Path, split: Split, fold: int | None) -> Iterator[Fault]:
    path = source.list_file(root, split, fold)
    listed = read_list(path)
    for name, count in collections.Counter(video.name for video in listed).items():
        if count > 1:
            yield Fault("bad-list", name, path, f"{name} is listed {count} times")
    other: Split = "test" if source.names[split] == source.names["train"] else "train"
    try:
        others = {video.name for video in read_list(source.list_file(root, other, fold))}
    except DataError:
        return  # told where that split is checked
    for name in sorted(others & {video.name for video in listed}):
        yield Fault("bad-list", name, path, f"{name} is in the list of split {other!r}, too")


class _VideoCheck:
    """The check of one video.

    Attributes:
        files_read: how many files `contents` opened.
    """

    def __init__(self, item: FrameFolderVideo, *, annotated: bool) -> None:
        self._item, self._annotated = item, annotated
        self.files_read = 0

    def _fault(self, kind: str, path: Path, message: str) -> Fault:
        return Fault(kind, self._item.name, path, message)

    def presence(self) -> Iterator[Fault]:
        """What the folders' lists of files tell."""
        item = self._item
        if not item.frame_files:
            problem = "is not there" if not item.frame_folder.is_dir() else "holds no frame"
            yield self._fault("missing-video", item.frame_folder, problem)
            return
        present, count = list(item.frame_files), len(item.frame_files)
        gaps = sorted(set(range(present[0], present[-1])) - set(present))
        if gaps:
            yield self._fault("frame-gap", item.frame_folder, f"{frames_text(gaps)} not there, between others")
        if item.listed_count is not None and item.listed_count > count:
            message = f"its list gives it {item.listed_count} frames, and {count} are there"
            yield self._fault("list-longer", item.frame_folder, message)
        elif item.listed_count is not None and item.listed_count < count:
            message = f"its list gives it {item.listed_count} frames, and {count} are there; the rest is left out"
            yield self._fault("list-shorter", item.frame_folder, message)
        yield from self._duplicates(item.layout.frames)
        if self._annotated:
            yield from self._beside(item.map_files, item.layout.maps, "map", "no-map", "extra-map")
            patterns = item.layout.fixations
            yield from self._beside(item.fixation_files, patterns, "fixation map", "no-fixations", "extra-fixations")
        if item.sound_path is not None and not item.sound_path.is_file():
            yield self._fault("no-sound", item.sound_path, "is not there")

    def contents(self, pool: Executor) -> Iterator[Fault]:
        """What decoding every file tells; missing ones have been named already."""
        item = self._item
        frames = {number: item.frame_files[number] for number in item.numbers}
        sizes = yield from self._read(pool, frames, lambda path: read_rgb(path).shape[:2])
        yield from self._sizes(sizes, frames, "frames")
        if self._annotated:
            maps = {number: path for number, path in item.map_files.items() if number in frames}
            seen = yield from self._read(pool, maps, _map_summary)
            yield from self._sizes({number: size for number, (size, _) in seen.items()}, maps, "maps")
            yield from self._shapes({number: size for number, (size, _) in seen.items()}, sizes, maps, "maps")
            empty = [number for number, (_, peak) in seen.items() if not peak > 0]
            if empty:
                yield self._fault("empty-map", maps[empty[0]].parent, f"{frames_text(empty)}: the map is empty")
            marks = {number: path for number, path in item.fixation_files.items() if number in frames}
            marked = yield from self._read(pool, marks, lambda path: read_fixation_map(path).shape)
            yield from self._shapes(marked, sizes, marks, "fixation maps")
        if item.has_sound:
            yield from self._sound()

    def _beside(
        self, files: Mapping[int, Path], patterns: tuple[str, ...], what: str, absent: str, extra: str
    ) -> Iterator[Fault]:
        """Compare the numbers of maps with those of frames."""
        item = self._item
        folder = next(iter(files.values())).parent if files else self._folder(patterns[0])
        without = [number for number in item.numbers if number not in files]
        if not files:
            yield self._fault(absent, folder, f"holds no {what}")
        elif without:
            yield self._fault(absent, folder, f"{frames_text(without)} without a {what}")
        beyond = [number for number in files if number not in item.frame_files]
        if beyond:
            yield self._fault(extra, folder, f"a {what} for {frames_text(beyond)}, not there")
        for pattern in patterns:
            yield from self._duplicates(pattern)

    def _folder(self, pattern: str) -> Path:
        return pattern_parts(self._item.root, pattern, self._item.name, self._item.split_folder)[0]

    def _duplicates(self, pattern: str) -> Iterator[Fault]:
        item = self._item
        numbered = numbered_files(item.root, pattern, item.name, item.split_folder)
        for (first, path), (second, other) in itertools.pairwise(numbered):
            if first == second:
                yield self._fault("duplicate", other, f"has the number {first}, as {path.name} has, which is taken")

    def _read(
        self, pool: Executor, files: Mapping[int, Path], read: Callable[[Path], T]
    ) -> Generator[Fault, None, dict[int, T]]:
        """Read all files; what reading gave, by number, without those that failed."""
        results: dict[int, T] = {}
        self.files_read += len(files)
        for number, result in zip(files, pool.map(lambda path: _attempt(read, path), files.values()), strict=True):
            if isinstance(result, DataError):
                yield self._fault("unreadable", files[number], str(result).removeprefix(f"{files[number]} "))
            else:
                results[number] = result
        return results

    def _sizes(self, sizes: Mapping[int, Size], files: Mapping[int, Path], what: str) -> Iterator[Fault]:
        """See that all have the size that most have."""
        if not sizes:
            return
        usual = collections.Counter(sizes.values()).most_common(1)[0][0]
        for number, size in sizes.items():
            if size != usual:
                text = f"is {size[1]}x{size[0]}, and the video's other {what} are {usual[1]}x{usual[0]}"
                yield self._fault("size", files[number], text)

    def _shapes(
        self, sizes: Mapping[int, Size], frames: Mapping[int, Size], files: Mapping[int, Path], what: str
    ) -> Iterator[Fault]:
        """See that maps are of their frames' shape; they may be larger or smaller."""
        odd = [
            number
            for number, (height, width) in sizes.items()
            if number in frames and abs(width / height / (frames[number][1] / frames[number][0]) - 1) > SHAPE_TOLERANCE
        ]
        if odd:
            (height, width), frame = sizes[odd[0]], frames[odd[0]]
            text = f"{frames_text(odd)}: the {what} are {width}x{height}, another shape than {frame[1]}x{frame[0]}"
            yield self._fault("size", files[odd[0]].parent, text)

    def _sound(self) -> Iterator[Fault]:
        item, path = self._item, self._item.sound_path
        assert path is not None
        self.files_read += 1
        yield from sound_faults(path, item.name, len(item.numbers) / item.frame_rate_hz, 0.0)


def sound_faults(path: Path, video: str, video_seconds: float, start_seconds: float) -> Iterator[Fault]:
    """Decode a sound from end to end and compare it with its video's length.

    Args:
        path: the file.
        video: the video's name.
        video_seconds: how long it is.
        start_seconds: the file's time of the first frame.
    """
    length, loudest = 0, 0.0
    try:
        with AudioReader(path, CHECK_RATE_HZ, start_seconds=start_seconds) as reader:
            for chunk in reader:
                length += len(chunk)
                loudest = max(loudest, float(np.abs(chunk).max(initial=0)))
            concealed = reader.concealed_seconds
    except MediaError as error:
        yield Fault("unreadable", video, path, f"cannot be read as sound ({error})")
        return
    if not length:
        yield Fault("unreadable", video, path, "holds no sound")
        return
    seconds = length / CHECK_RATE_HZ
    if concealed:
        yield Fault("unreadable", video, path, f"{concealed:.2f} s of the sound cannot be decoded")
    if seconds < video_seconds - SHORT_SOUND_SECONDS:
        text = f"the sound lasts {seconds:.2f} s, and the video {video_seconds:.2f} s"
        yield Fault("short-sound", video, path, text)
    if not loudest:
        yield Fault("silent-sound", video, path, "the sound is digital silence")


def _map_summary(path: Path) -> tuple[Size, float]:
    """Size and largest value."""
    values = read_map(path)
    return (values.shape[0], values.shape[1]), float(values.max(initial=0))


def _attempt(read: Callable[[Path], T], path: Path) -> T | DataError:
    try:
        return read(path)
    except DataError as error:
        return error
