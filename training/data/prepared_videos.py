"""Videos with gaze in a folder in dtfsal's layout, as `dtfsal prepare videos` leaves it.

    videos/NAME.mp4              the videos, with their sound
    fixations/NAME.csv           where observers looked in them; see `dtfsal.training.data.gaze_table`
    index/NAME.npz               times and places of a video's frames, and the gaze of each
    frames/NAME/00001.jpg        only if asked for: the frames as pictures
    dataset.json                 the videos, their splits, and how many pixels are a degree

Maps are made of the gaze when they are asked for: a gaussian of one degree around each position.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.gaze_table import FrameGaze, read_gaze
from dtfsal.training.data.layouts import SPLITS, Split
from dtfsal.training.data.picture_files import read_rgb
from dtfsal.training.data.stills import DEGREE_OF_WIDTH, DataError, Points, Rgb
from dtfsal.training.data.video_frames import FrameIndex, VideoFrames
from dtfsal.training.data.video_item import Floats, Times

FORMAT = 1
SMALLEST_SIGMA = 0.5  # pixels; a narrower gaussian falls between them


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoEntry:
    """A video in `dataset.json`.

    Attributes:
        name: the file's name without its suffix.
        file: the video's file, below the dataset's folder.
        fixations: the table's.
        split: what the video is for.
        frame_count: how many frames it has.
        frame_rate_hz: on average.
        height: of the frames, in pixels.
        width: likewise.
        has_sound: whether there is sound.
        start_seconds: the container's time of the first frame.
        file_bytes: size of the video's file.
        fixations_sha256: of the table's file, as hexadecimal digits.
        observers: how many looked at it.
    """

    name: str
    file: str
    fixations: str
    split: Split
    frame_count: int
    frame_rate_hz: float
    height: int
    width: int
    has_sound: bool
    start_seconds: float
    file_bytes: int
    fixations_sha256: str
    observers: int

    def __post_init__(self) -> None:
        wanted: dict[object, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
        for field in dataclasses.fields(self):
            value, kinds = getattr(self, field.name), wanted.get(field.type, (str,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and field.type is not bool):
                raise ValueError(f"{field.name} can't be {value!r}")
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {self.split!r}")
        if min(self.frame_count, self.height, self.width) < 1 or not 0 < self.frame_rate_hz < math.inf:
            raise ValueError("frame_count, frame_rate_hz, height and width must be positive")
        for path in (self.file, self.fixations, self.name):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"{path!r} is not below the dataset's folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoTable:
    """`dataset.json`.

    Attributes:
        videos: by name.
        pixels_per_degree: of visual angle, in pixels of the videos; None for 19/640 of each one's width, which is
            OSIE's viewing distance.
    """

    videos: tuple[VideoEntry, ...]
    pixels_per_degree: float | None = None

    def __post_init__(self) -> None:
        check_pixels_per_degree(self.pixels_per_degree)

    def to_json(self) -> str:
        """The file's text."""
        data = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(data, indent=1) + "\n"


def check_pixels_per_degree(value: float | None) -> None:
    """See that a number of pixels per degree can be one.

    Raises:
        UsageError: it can't.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and math.isfinite(value) and value > 0):
        raise UsageError(f"pixels per degree must be a positive number, not {value!r}")


def read_table(root: Path) -> VideoTable:
    """A prepared folder's `dataset.json`.

    Raises:
        DataError: it is missing or not one.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise DataError(f"{root} holds no dataset.json; run `dtfsal prepare videos --source {root}`")
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        videos = tuple(VideoEntry(**entry) for entry in data.pop("videos"))
        if len({video.name for video in videos}) != len(videos):
            raise ValueError("two videos have one name")
        return VideoTable(videos=videos, **data)
    except (OSError, UsageError, *MALFORMED) as error:
        raise DataError(f"{path} is not what `dtfsal prepare videos` writes ({error}); run it again") from error


def index_path(root: Path, name: str) -> Path:
    """Where a video's index is."""
    return root / "index" / f"{name}.npz"


def write_index(path: Path, index: FrameIndex, gaze: FrameGaze) -> None:
    """Write an index."""
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            times_seconds=index.times_seconds,
            pts=index.pts,
            keyframes=index.keyframes,
            geometry=np.array([*index.size, index.rotation_degrees], np.int64),
            gaze_offsets=gaze.offsets,
            gaze_points=gaze.points,
        )


def read_index(path: Path) -> tuple[FrameIndex, FrameGaze]:
    """An index that `write_index` wrote.

    Raises:
        DataError: it is missing or not one.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            height, width, rotation = (int(value) for value in data["geometry"])
            times, pts, keyframes = data["times_seconds"], data["pts"], data["keyframes"]
            index = FrameIndex(times, pts, keyframes, (height, width), rotation)
            gaze = FrameGaze(data["gaze_offsets"], data["gaze_points"])
        if times.ndim != 1 or len(pts) not in (0, len(times)) or gaze.offsets.shape != (len(times) + 1,):
            raise ValueError("its parts do not fit each other")
        if gaze.offsets[-1] != len(gaze.points) or gaze.points.shape[1:] != (2,):
            raise ValueError("its gaze is cut short")
    except Exception as error:  # NumPy and zipfile have many ways to say that a file is damaged
        raise DataError(f"{path} is not a video's index ({error}); run `dtfsal prepare videos` again") from error
    return index, gaze


@dataclasses.dataclass(frozen=True)
class PreparedVideos:
    """The dataset "videos", in whatever folder it lies."""

    name: str = "videos"
    title: str = "prepared videos"
    folds: tuple[int, ...] = ()
    splits: tuple[Split, ...] = SPLITS
    own_validation: bool = True

    def open(self, root: Path, split: Split, fold: int | None) -> "Sequence[PreparedVideo]":
        """The videos of a split, by name.

        Raises:
            UsageError: there is no such split, or a fold is given.
            DataError: the folder was not prepared, or the split is empty.
        """
        if split not in SPLITS or fold is not None:
            raise UsageError(f"{self.title} have the splits {', '.join(SPLITS)} and no folds, not {split!r} and {fold}")
        table = read_table(root)
        items = [self.item(root, video, table) for video in table.videos if video.split == split]
        if not items:
            raise DataError(f"{root} has no video in the split {split!r}; change `split` in its dataset.json")
        for item in items:
            if not item.path.is_file():
                raise DataError(f"{item.path} is not there; restore it, or run `dtfsal prepare videos` again")
        return items

    def item(self, root: Path, entry: VideoEntry, table: VideoTable) -> "PreparedVideo":
        """A video of a table, there or not."""
        return PreparedVideo(root, entry, table.pixels_per_degree)


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """A video whose frames are decoded when they are asked for; see `VideoItem`.

    Attributes:
        root: the dataset's folder.
        entry: what `dataset.json` says of the video.
        pixels_per_degree: see `VideoTable`.
    """

    root: Path
    entry: VideoEntry
    pixels_per_degree: float | None = None

    @property
    def path(self) -> Path:
        """The video's file."""
        return self.root / self.entry.file

    @property
    def name(self) -> str:
        """See `VideoItem`."""
        return self.entry.name

    @property
    def dataset(self) -> str:
        """See `VideoItem`."""
        return "videos"

    @property
    def frame_count(self) -> int:
        """See `VideoItem`."""
        return self.entry.frame_count

    @property
    def frame_rate_hz(self) -> float:
        """See `VideoItem`."""
        return self.entry.frame_rate_hz

    @property
    def has_sound(self) -> bool:
        """See `VideoItem`."""
        return self.entry.has_sound

    @property
    def size(self) -> tuple[int, int]:
        """See `VideoItem`."""
        return self.entry.height, self.entry.width

    @property
    def frame_times_seconds(self) -> Times:
        """See `TimedVideoItem`."""
        return self._index[0].times_seconds

    @property
    def sigma(self) -> float:
        """The standard deviation of the maps' gaussians: one degree, in pixels of the video."""
        return max(self.pixels_per_degree or DEGREE_OF_WIDTH * self.entry.width, SMALLEST_SIGMA)

    def frame(self, index: int) -> Rgb:
        """See `VideoItem`."""
        self._check(index)
        picture = self._pictures.get(index)
        return self._frames.read(index).copy() if picture is None else read_rgb(picture)

    def density(self, index: int) -> Floats | None:
        """See `VideoItem`."""
        height, width = self.size
        return fixation_density(self._gaze(index), height, width, self.sigma).astype(np.float32)

    def fixations(self, index: int) -> Points | None:
        """See `VideoItem`."""
        return self._gaze(index)

    def samples(self, sample_rate_hz: int) -> Floats | None:
        """See `VideoItem`."""
        if not self.has_sound:
            return None
        with AudioReader(self.path, sample_rate_hz, start_seconds=self.entry.start_seconds) as reader:
            chunks = list(reader)
        return np.concatenate(chunks) if chunks else None

    def read_source(self) -> None:
        """Read the table of gaze that the index was made of.

        Raises:
            DataError: it is not one.
        """
        read_gaze(self.root / self.entry.fixations)

    def _gaze(self, index: int) -> Points:
        self._check(index)
        return self._index[1].at(index)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.frame_count:
            raise UsageError(f"{self.path} has the frames 0 to {self.frame_count - 1}, not {index}")

    @functools.cached_property
    def _index(self) -> tuple[FrameIndex, FrameGaze]:
        path = index_path(self.root, self.name)
        index, gaze = read_index(path)
        if len(index.times_seconds) != self.frame_count or index.size != self.size:
            raise DataError(f"{path} is of another video than dataset.json; run `dtfsal prepare {self.dataset}` again")
        return index, gaze

    @functools.cached_property
    def _frames(self) -> VideoFrames:
        return VideoFrames(self.path, self._index[0])

    @functools.cached_property
    def _pictures(self) -> Mapping[int, Path]:
        """The frames that are pictures already."""
        folder = self.root / "frames" / self.name
        if not folder.is_dir():
            return {}
        paths = {index: picture_path(self.root, self.name, index) for index in range(self.frame_count)}
        names = {path.name for path in folder.iterdir()}
        return {index: path for index, path in paths.items() if path.name in names}


def picture_path(root: Path, name: str, index: int) -> Path:
    """Where a frame's picture is, if pictures were asked for; their numbers count from 1."""
    return root / "frames" / name / f"{index + 1:05d}.jpg"
