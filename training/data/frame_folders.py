"""Datasets whose videos are folders of pictures: how one is described, and a video of it."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.training.data.layouts import (
    SPLITS,
    Layout,
    ListedVideo,
    Split,
    VideoSource,
    check_split,
    numbered_files,
    pattern_parts,
)
from dtfsal.training.data.picture_files import fixated_points, picture_size, read_fixation_map, read_map, read_rgb
from dtfsal.training.data.stills import DataError, Points, Rgb
from dtfsal.training.data.video_item import Floats


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameFolders:
    """A dataset of frame folders.

    Attributes:
        name: as commands have it.
        title: as people have it.
        layouts: the ways it lies on disks; the first that is found is taken.
        videos: which videos belong to a split.
        frame_rate_hz: of videos whose list does not state it.
        annotated: the splits that have maps.
        own_validation: whether there is a validation split that nobody reports on.
        encoded: the folder of the videos as they are downloaded, which `dtfsal prepare` makes frames of; None if the
            dataset comes as frames.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    videos: VideoSource
    frame_rate_hz: float
    annotated: tuple[Split, ...] = SPLITS
    own_validation: bool = False
    encoded: str | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        """The numbers of the folds; empty where there are none."""
        return self.videos.folds

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return self.videos.splits

    def open(self, root: Path, split: Split, fold: int | None) -> "Sequence[FrameFolderVideo]":
        """The videos of a split that are there, in the dataset's order.

        Raises:
            UsageError: there is no such split or fold.
            DataError: nothing of the dataset is there, or a video of a list is not.
        """
        check_split(self.title, self.videos, split, fold)
        layout = self.layout(root, split, fold)
        items = [self.item(root, layout, listed, split) for listed in self.videos.videos(root, layout, split, fold)]
        absent = [item for item in items if not item.frame_folder.is_dir()]
        if absent:
            raise DataError(
                f"{absent[0].frame_folder} is not there{_others(len(absent) - 1)}; `dtfsal check "
                f"{self.name} {root}` names all that is missing"
            )
        return items

    def layout(self, root: Path, split: Split, fold: int | None) -> Layout:
        """The layout that the dataset lies in.

        Raises:
            DataError: none of them.
        """
        usual = self.videos.folders
        for layout in self.layouts:
            folder = layout.split_folder(usual, split)
            for listed in self.videos.videos(root, layout, split, fold):
                if pattern_parts(root, layout.frames, listed.name, folder)[0].is_dir():
                    return layout
        if self.encoded is not None and (found := encoded_videos(root / self.encoded)):
            raise DataError(
                f"{root} holds videos that are not decoded yet, such as {found[0].relative_to(root)}: run `dtfsal "
                f"prepare {self.name} --source {root}`"
            )
        places = " or ".join(
            layout.frames.format(video="VIDEO", split=layout.split_folder(usual, split), frame="FRAME").replace("*", "")
            for layout in self.layouts
        )
        raise DataError(
            f"{root} holds no video of {self.title}'s split {split!r}: there should be {places}; "
            "see docs/how-to/datasets.md"
        )

    def item(self, root: Path, layout: Layout, listed: ListedVideo, split: Split) -> "FrameFolderVideo":
        """A video, there or not."""
        return FrameFolderVideo(
            name=listed.name,
            dataset=self.name,
            frame_rate_hz=listed.frame_rate_hz or self.frame_rate_hz,
            root=root,
            layout=layout,
            split_folder=layout.split_folder(self.videos.folders, split),
            listed_count=listed.frame_count,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameFolderVideo:
    """A video whose frames and maps are pictures; see `VideoItem`.

    Frames go by their order, and a map belongs to the frame whose number it has.

    Attributes:
        name: its folder.
        dataset: the dataset's name.
        frame_rate_hz: frames per second.
        root: the dataset's folder.
        layout: where the files lie.
        split_folder: what replaces `{split}` in the layout.
        listed_count: how many frames a list gives it; more on the disk do not count, nor does a list that tells more.
    """

    name: str
    dataset: str
    frame_rate_hz: float
    root: Path
    layout: Layout
    split_folder: str = ""
    listed_count: int | None = None

    @property
    def frame_folder(self) -> Path:
        """Where the frames are."""
        return pattern_parts(self.root, self.layout.frames, self.name, self.split_folder)[0]

    @property
    def sound_path(self) -> Path | None:
        """Where the sound is, if the dataset has sound."""
        if self.layout.sound is None:
            return None
        return self.root / self.layout.sound.format(video=self.name, split=self.split_folder)

    @functools.cached_property
    def frame_files(self) -> dict[int, Path]:
        """All frames by their number, in order."""
        return self._files(self.layout.frames)

    @functools.cached_property
    def map_files(self) -> dict[int, Path]:
        """All maps by their frame's number, in order."""
        return self._first_files(self.layout.maps)

    @functools.cached_property
    def fixation_files(self) -> dict[int, Path]:
        """All fixation maps by their frame's number, in order."""
        return self._first_files(self.layout.fixations)

    @functools.cached_property
    def numbers(self) -> list[int]:
        """The numbers of the frames that count."""
        return list(self.frame_files)[: self.listed_count]

    @property
    def frame_count(self) -> int:
        """See `VideoItem`.

        Raises:
            DataError: there is no frame.
        """
        if not self.numbers:
            raise DataError(f"{self.frame_folder} holds no frame of {self.dataset}; restore it from the dataset")
        return len(self.numbers)

    @property
    def has_sound(self) -> bool:
        """See `VideoItem`."""
        return self.sound_path is not None and self.sound_path.is_file()

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """See `VideoItem`."""
        return picture_size(self.frame_files[self._number(0)])

    def frame(self, index: int) -> Rgb:
        """See `VideoItem`."""
        return read_rgb(self.frame_files[self._number(index)])

    def density(self, index: int) -> Floats | None:
        """See `VideoItem`."""
        path = self.map_files.get(self._number(index))
        return None if path is None else read_map(path)

    def fixations(self, index: int) -> Points | None:
        """See `VideoItem`."""
        path = self.fixation_files.get(self._number(index))
        return None if path is None else fixated_points(read_fixation_map(path), self.size)

    def samples(self, sample_rate_hz: int) -> Floats | None:
        """See `VideoItem`."""
        path = self.sound_path
        if path is None or not path.is_file():
            return None
        with AudioReader(path, sample_rate_hz, start_seconds=0.0) as reader:
            chunks = list(reader)
        return np.concatenate(chunks) if chunks else None

    def _number(self, index: int) -> int:
        if not 0 <= index < self.frame_count:
            raise UsageError(f"{self.dataset}'s {self.name} has the frames 0 to {self.frame_count - 1}, not {index}")
        return self.numbers[index]

    def _files(self, pattern: str) -> dict[int, Path]:
        files: dict[int, Path] = {}
        for number, path in numbered_files(self.root, pattern, self.name, self.split_folder):
            files.setdefault(number, path)
        return files

    def _first_files(self, patterns: tuple[str, ...]) -> dict[int, Path]:
        return next((files for pattern in patterns if (files := self._files(pattern))), {})


def encoded_videos(folder: Path) -> list[Path]:
    """The AVI files of a folder, by name; none where it is not there."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".avi" and path.is_file())
    except OSError:
        return []


def _others(count: int) -> str:
    return f", nor are {count} others" if count else ""
