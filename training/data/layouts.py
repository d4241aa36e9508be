"""How datasets lie on a disk: path patterns below a root, and the videos that belong to a split.

A pattern names folders and a file, with `{video}` for a video's name, `{frame}` for a frame's number in digits,
`{split}` for the split's folder, and `*` for anything within a file's name. One without a suffix means a picture.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.stills import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FRAME = "\1"  # stands for a number while a pattern is taken apart: no name has such a character
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the files of a video lie. Of several patterns, the first whose folder holds a matching file is used.

    Attributes:
        frames: the pictures.
        maps: ground-truth saliency maps.
        fixations: fixation maps, not blurred.
        sound: the sound's file, or None where the dataset has none.
        folders: what replaces `{split}` in this layout, where it is not what the dataset's videos say.
    """

    frames: str
    maps: tuple[str, ...]
    fixations: tuple[str, ...]
    sound: str | None = None
    folders: Mapping[Split, str] = dataclasses.field(default_factory=dict)

    def split_folder(self, usual: Mapping[Split, str], split: Split) -> str:
        """What replaces `{split}`: this layout's own folder, or the dataset's usual one."""
        return self.folders.get(split) or usual.get(split, "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedVideo:
    """A video as its dataset names it.

    Attributes:
        name: as folders have it.
        frame_count: as a list states it, or None.
        frame_rate_hz: as a list states it, or None.
    """

    name: str
    frame_count: int | None = None
    frame_rate_hz: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberedVideos:
    """Videos that are folders with a number for a name, of any number of digits; a split is a range of numbers.

    Attributes:
        ranges: first and last number of each split.
        folders: what replaces `{split}`.
    """

    ranges: Mapping[Split, tuple[int, int]]
    folders: Mapping[Split, str] = dataclasses.field(default_factory=dict)
    folds: tuple[int, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return tuple(self.ranges)

    def videos(self, root: Path, layout: Layout, split: Split, fold: int | None) -> list[ListedVideo]:
        """The videos of a split that are there, in order of their numbers."""
        del fold
        first, last = self.ranges[split]
        numbered = {
            int(name): name
            for name in video_folders(root, layout, layout.split_folder(self.folders, split))
            if name.isdecimal()
        }
        return [ListedVideo(name=numbered[number]) for number in range(first, last + 1) if number in numbered]

    def missing(self, root: Path, layout: Layout, split: Split) -> list[int]:
        """The numbers of the split's videos that are not there."""
        first, last = self.ranges[split]
        found = {int(video.name) for video in self.videos(root, layout, split, None)}
        return [number for number in range(first, last + 1) if number not in found]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderVideos:
    """Videos that are the folders of a split's own folder.

    Attributes:
        folders: what replaces `{split}`.
    """

    folders: Mapping[Split, str]
    folds: tuple[int, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return tuple(self.folders)

    def videos(self, root: Path, layout: Layout, split: Split, fold: int | None) -> list[ListedVideo]:
        """The videos of a split, by name."""
        del fold
        return [
            ListedVideo(name=name) for name in video_folders(root, layout, layout.split_folder(self.folders, split))
        ]

    def missing(self, root: Path, layout: Layout, split: Split) -> list[int]:
        """Nothing says how many there should be."""
        del root, layout, split
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoLists:
    """Videos that a text file lists, a line `name frames rate` each.

    Attributes:
        path: the list, with `{split}` and, if there are folds, `{fold}`.
        names: what replaces `{split}`.
        folds: the numbers of the folds; empty where the dataset has one list only.
    """

    path: str
    names: Mapping[Split, str]
    folds: tuple[int, ...] = ()

    @property
    def folders(self) -> Mapping[Split, str]:
        """What replaces `{split}` in a layout: nothing."""
        return {}

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return tuple(self.names)

    def list_file(self, root: Path, split: Split, fold: int | None) -> Path:
        """The list of a split."""
        return root / self.path.format(split=self.names[split], fold=fold)

    def videos(self, root: Path, layout: Layout, split: Split, fold: int | None) -> list[ListedVideo]:
        """The videos of a list, in its order.

        Raises:
            DataError: the list is missing, empty, or a line of it is not what it should be.
        """
        del layout
        return read_list(self.list_file(root, split, fold))

    def missing(self, root: Path, layout: Layout, split: Split) -> list[int]:
        """What a list names and is not there is found where its files are looked for."""
        del root, layout, split
        return []


VideoSource = NumberedVideos | FolderVideos | VideoLists


def read_list(path: Path) -> list[ListedVideo]:
    """The videos of a list file; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, is empty, or a line is not a name, a number of frames and a rate.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {path} cannot be read ({error}); restore it from the dataset") from error
    videos = [_listed(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not videos:
        raise DataError(f"the list {path} is empty; restore it from the dataset")
    return videos


def _listed(line: str, where: str) -> ListedVideo:
    try:
        name, count, rate = line.split()
        listed = ListedVideo(name=name, frame_count=int(float(count)), frame_rate_hz=float(rate))
    except (ValueError, OverflowError):
        listed = None
    if listed is None or "/" in listed.name or not (listed.frame_count or 0) > 0 or not 0 < _rate(listed) <= 1000:
        raise DataError(f"{where}: a line must be a name, a number of frames and a frame rate, not {line.strip()!r}")
    return listed


def _rate(listed: ListedVideo) -> float:
    return listed.frame_rate_hz or 0.0


def video_folders(root: Path, layout: Layout, split_folder: str) -> list[str]:
    """The names of the folders where the layout's pictures of videos lie, sorted; none if there is no such place."""
    after = layout.frames.split("{video}", 1)[1]
    parent, inner = video_parent(root, layout, split_folder), Path(after.strip("/")).parent
    try:
        names = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return []
    return sorted(name for name in names if (parent / name / inner).is_dir())


def video_parent(root: Path, layout: Layout, split_folder: str) -> Path:
    """The folder whose folders are videos."""
    return root / layout.frames.split("{video}", 1)[0].format(split=split_folder).rstrip("/")


def numbered_files(root: Path, pattern: str, video: str, split_folder: str = "") -> list[tuple[int, Path]]:
    """The files of a video that fit a pattern with `{frame}`, with their numbers, by number and name.

    A folder that is not there has none.
    """
    folder, name = pattern_parts(root, pattern, video, split_folder)
    suffixes = r"\.\w+" if Path(name).suffix == "" else re.escape(Path(name).suffix)
    stem = name.removesuffix(Path(name).suffix)
    expression = re.escape(stem).replace(r"\*", ".*?").replace(FRAME, r"(\d+)")
    matcher = re.compile(f"{expression}({suffixes})", re.IGNORECASE)
    found = []
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []
    for file_name in names:
        match = matcher.fullmatch(file_name)
        if match and (Path(name).suffix or match[2].lower() in PICTURES):
            found.append((int(match[1]), folder / file_name))
    return sorted(found)


def pattern_parts(root: Path, pattern: str, video: str, split_folder: str = "") -> tuple[Path, str]:
    """The folder of a pattern, and its file's name in which `FRAME` stands for the frame's number."""
    path = Path(pattern.format(video=video, split=split_folder, frame=FRAME))
    return root / path.parent, path.name


def check_split(title: str, source: VideoSource, split: str, fold: int | None) -> None:
    """See that a dataset has such a split and fold.

    Raises:
        UsageError: it has not; or it has folds and none is given.
    """
    if split not in source.splits:
        raise UsageError(f"{title} has no split {split!r}; it has {', '.join(source.splits)}")
    if source.folds and fold not in source.folds:
        numbers = ", ".join(str(number) for number in source.folds)
        raise UsageError(f"{title} has the folds {numbers}; give one of them, not {fold}")
    if not source.folds and fold is not None:
        raise UsageError(f"{title} has no folds; leave the fold out")
