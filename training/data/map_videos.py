"""Videos whose maps are videos, too: CrowdSAL, and the AIM 2024 and NTIRE 2026 challenges, as they are published.

    crowdsal:            Train/Videos/0001.mp4  Train/Saliency/0001.mp4  Train/Fixations/0001.json, and Test/...
    aim2024, ntire2026:  Videos/NAME.mp4  SaliencyTrain/Train/NAME.mp4  FixationsTrain/Train/NAME/fixations.json,
                         SaliencyTest/Test/... and TrainTestSplit.json

`dtfsal prepare NAME` adds `dataset.json` and `index/`, as for videos of one's own.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.training.data.gaze_table import FrameGaze
from dtfsal.training.data.layouts import Split
from dtfsal.training.data.prepared_videos import (
    PreparedVideo,
    VideoEntry,
    VideoTable,
    index_path,
    read_index,
    read_table,
)
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_frames import GreyFrames
from dtfsal.training.data.video_item import Floats

FIXATIONS_BYTES = 1 << 28  # of a file of fixations; CrowdSAL's have 2 MB


@dataclasses.dataclass(frozen=True)
class PublishedVideo:
    """A video of a download.

    Attributes:
        name: the file's name without its suffix.
        split: what it is for.
        video: its file, below the dataset's folder.
        maps: the video of its maps, or None where there is none.
        fixations: the file of its fixations, or None.
    """

    name: str
    split: Split
    video: Path
    maps: Path | None
    fixations: Path | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapVideos:
    """A dataset of videos with videos of maps.

    Attributes:
        name: as commands have it.
        title: as people have it.
        parts: what replaces `{part}` in the patterns, by split.
        videos: where a video may lie; the first that is there.
        maps: likewise for its maps.
        fixations: likewise for its fixations.
        split_list: the file that lists the videos of each split; None where a split is a folder.
        lists: the names of the splits in it.
    """

    name: str
    title: str
    parts: Mapping[Split, str]
    videos: tuple[str, ...]
    maps: tuple[str, ...]
    fixations: tuple[str, ...]
    split_list: str | None = None
    lists: Mapping[Split, str] = dataclasses.field(default_factory=dict)
    folds: tuple[int, ...] = ()
    own_validation: bool = False

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return tuple(self.parts)

    def open(self, root: Path, split: Split, fold: int | None) -> "Sequence[MapVideo]":
        """The videos of a split, by name.

        Raises:
            UsageError: there is no such split, or a fold is given.
            DataError: the folder was not prepared, the split is empty, or a video is not there.
        """
        if split not in self.splits or fold is not None:
            splits = ", ".join(self.splits)
            raise UsageError(f"{self.title} has the splits {splits} and no folds, not {split!r} and {fold}")
        if not (root / "dataset.json").is_file():
            raise DataError(f"{root} is not prepared; run `dtfsal prepare {self.name} --source {root}`")
        table = read_table(root)
        items = [self.item(root, entry, table) for entry in table.videos if entry.split == split]
        if not items:
            raise DataError(f"{root} has no video of {self.title}'s split {split!r}; restore it, and prepare it again")
        absent = next((item for item in items if not item.path.is_file()), None)
        if absent is not None:
            raise DataError(f"{absent.path} is not there; restore it, or run `dtfsal prepare {self.name}` again")
        return items

    def item(self, root: Path, entry: VideoEntry, table: VideoTable) -> "MapVideo":
        """A video of a prepared folder, there or not."""
        del table
        maps = _first(root, self.maps, entry.name, self.parts.get(entry.split, ""))
        return MapVideo(root, entry, None, dataset_name=self.name, maps=maps)

    def published(self, root: Path) -> list[PublishedVideo]:
        """The videos of a download, split by split and by name.

        Raises:
            DataError: there are none, or the list of splits is missing or names a video that is not there.
        """
        found = []
        for split, part in self.parts.items():
            names = self._listed(root, split) if self.split_list else self._in_folder(root, part)
            for name in names:
                video = _first(root, self.videos, name, part)
                if video is None:
                    places = " nor ".join(pattern.format(part=part, video=name) for pattern in self.videos)
                    raise DataError(
                        f"{root / str(self.split_list)} names {name}, and {places} is not there; restore it"
                    )
                maps = _first(root, self.maps, name, part)
                found.append(PublishedVideo(name, split, video, maps, _first(root, self.fixations, name, part)))
        if not found:
            example = self.videos[0].format(part=next(iter(self.parts.values())), video="NAME")
            raise DataError(f"{root} holds no video of {self.title}, such as {example}; give the folder as published")
        return found

    def _in_folder(self, root: Path, part: str) -> list[str]:
        folder = root / Path(self.videos[0].format(part=part, video="x")).parent
        return sorted(path.stem for path in folder.glob("*.mp4")) if folder.is_dir() else []

    def _listed(self, root: Path, split: Split) -> list[str]:
        path = root / str(self.split_list)
        try:
            lists: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # The key of the training list is the one that the published scripts do not show.
            key = next(key for key in lists if key.lower().replace("-", "_") == self.lists[split])
            names = [str(name).removesuffix(".mp4") for name in lists[key]]
        except StopIteration:
            raise DataError(f"{path} has no list {self.lists[split]!r}; restore it from {self.title}") from None
        except (OSError, *MALFORMED) as error:
            raise DataError(f"{path} cannot be read as the list of splits ({error}); restore it") from error
        bad = next((name for name in names if not name or Path(name).name != name), None)
        if bad is not None:
            raise DataError(f"{path} names {bad!r}, which is not a video's name; restore it from {self.title}")
        return names


@dataclasses.dataclass(frozen=True)
class MapVideo(PreparedVideo):
    """A video whose maps are decoded from another when they are asked for; see `VideoItem`.

    Attributes:
        dataset_name: the dataset's.
        maps: the video of maps, or None where they are not public.
    """

    dataset_name: str = ""
    maps: Path | None = None

    @property
    def dataset(self) -> str:
        """See `VideoItem`."""
        return self.dataset_name

    def density(self, index: int) -> Floats | None:
        """See `VideoItem`."""
        self._check(index)
        return None if self.maps is None else self._map_frames.read_map(index)

    def fixations(self, index: int) -> npt.NDArray[np.float32] | None:
        """See `VideoItem`."""
        return self._gaze(index) if self.entry.fixations else None

    def read_source(self) -> None:
        """Read the file of fixations that the index was made of.

        Raises:
            DataError: it is not one.
        """
        read_frame_points(self.root / self.entry.fixations)

    @functools.cached_property
    def _map_frames(self) -> GreyFrames:
        assert self.maps is not None
        return GreyFrames(self.maps, read_index(maps_index_path(self.root, self.name))[0])


def maps_index_path(root: Path, name: str) -> Path:
    """Where the index of a video's maps is."""
    return index_path(root, f"{name}.maps")


def read_frame_points(path: Path) -> FrameGaze:
    """A published file of fixations: for each frame a list of [row, column], which may be empty.

    Raises:
        DataError: it is not one.
    """
    try:
        if path.stat().st_size > FIXATIONS_BYTES:
            raise ValueError("it is too large")
        frames = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(frames, list) or not frames:
            raise ValueError("it is not a list of frames")
        points = [np.asarray(frame, np.float32).reshape(len(frame), 2)[:, ::-1] for frame in frames]
        joined = np.concatenate(points)
        if not np.isfinite(joined).all():
            raise ValueError("a position is not finite")
    except (OSError, *MALFORMED) as error:
        raise DataError(
            f"{path} is not a file of fixations, a list of [row, column] for each frame ({error})"
        ) from error
    offsets = np.cumsum([0, *map(len, points)], dtype=np.int64)
    return FrameGaze(offsets, np.ascontiguousarray(joined), 0)


def _first(root: Path, patterns: tuple[str, ...], name: str, part: str) -> Path | None:
    paths = (root / pattern.format(part=part, video=name) for pattern in patterns)
    return next((path for path in paths if path.is_file()), None)


def _challenge(name: str, title: str) -> MapVideos:
    return MapVideos(
        name=name,
        title=title,
        parts={"train": "Train", "validation": "Test", "test": "Test"},
        videos=("Videos/{video}.mp4", "Videos/{part}/{video}.mp4"),
        maps=("Saliency{part}/{part}/{video}.mp4", "Saliency{part}/{video}.mp4"),
        fixations=("Fixations{part}/{part}/{video}/fixations.json", "Fixations{part}/{video}/fixations.json"),
        split_list="TrainTestSplit.json",
        lists={"train": "train", "validation": "public_test", "test": "private_test"},
    )


CROWDSAL = MapVideos(
    name="crowdsal",
    title="CrowdSAL",
    parts={"train": "Train", "test": "Test"},
    videos=("{part}/Videos/{video}.mp4",),
    maps=("{part}/Saliency/{video}.mp4",),
    fixations=("{part}/Fixations/{video}.json",),
)
MAP_VIDEOS = (CROWDSAL, _challenge("aim2024", "AIM 2024"), _challenge("ntire2026", "NTIRE 2026"))
