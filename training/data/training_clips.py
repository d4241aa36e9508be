"""What a model is trained and scored on: windows of videos, as the runtime feeds them, with the map of their target.

    clips = TrainingClips(open_dataset("dhf1k", root, "train"), config.clip, config.audio, Augmentation(), seed=0)
    clips.set_epoch(3)
    clips[0]["video"], clips[0]["density"]

Nothing here needs PyTorch; a `DataLoader` takes `TrainingClips` as it is.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import normalise_clip, resize_frame
from dtfsal.runtime.frontend.windows import iter_windows
from dtfsal.training.data.camera import vary_colour
from dtfsal.training.data.clips import mel_slices, window_of
from dtfsal.training.data.stills import DataError, Points, Rgb
from dtfsal.training.data.video_item import Floats, Times, VideoItem, frame_times

Sample: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How a window is varied; the default is not at all.

    Attributes:
        flip_share: of the windows, how many have left and right exchanged, with their maps.
        colour_share: of the windows, how many get another brightness, contrast and saturation.
        temporal_strides: the windows' taps lie so many times further apart than the runtime's; one is drawn each time.
        gain_db: the sound is made louder or softer by up to so many decibels.
    """

    flip_share: float = 0.0
    colour_share: float = 0.0
    temporal_strides: tuple[int, ...] = (1,)
    gain_db: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip_share", "colour_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"augmentation.{name} must lie in 0..1, not {getattr(self, name)!r}")
        strides = self.temporal_strides
        if not isinstance(strides, tuple) or not strides or any(type(n) is not int or n < 1 for n in strides):
            raise UsageError(f"augmentation.temporal_strides must be positive integers, not {strides!r}")
        if not (math.isfinite(self.gain_db) and self.gain_db >= 0):
            raise UsageError(f"augmentation.gain_db must be at least 0, not {self.gain_db!r}")


NO_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True)
class EveryFrames:
    """Windows at fixed places, as the loaders that the paper cites draw them.

    Attributes:
        frames: from one window's start to the next's.
        span: frames of a video that must follow a start; None for the length of the model's clip. DiffSal's loader of
            DHF1K has 16 and the clip's 32; STAViS's and DiffSal's of the audio-visual sets have 74 and 1.
    """

    frames: int
    span: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("window_every", self.frames), ("window_span", self.span)):
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"{name} must be a positive integer, not {value!r}")

    def targets(self, count: int, clip: ClipSpec) -> list[int]:
        """The target frames of a video of `count` frames; one at least, also where the cited loaders have none."""
        span = clip.frames if self.span is None else self.span
        return [min(start + clip.target_index, count - 1) for start in range(0, max(count - span, 1), self.frames)]


class TrainingClips:
    """A map-style dataset of one random window for each video and epoch, or more, or of windows at fixed places.

    Any frame with a map can be a target, those near a video's ends, too: their windows are padded as the runtime pads
    them. What `clips[i]` gives depends on the seed, the epoch and i alone.

    Args:
        items: the videos.
        clip: the model's clip.
        audio: its sound slices, or None for a visual model.
        augmentation: how windows are varied.
        seed: of everything random.
        windows_per_video: in an epoch; item i is a window of the video i % len(items).
        every: windows at fixed places, the same in every epoch, in place of random ones. Where the map is empty, a
            random frame of the video is the target.

    Raises:
        UsageError: an argument can't be.
    """

    def __init__(
        self,
        items: Sequence[VideoItem],
        clip: ClipSpec,
        audio: AudioSpec | None,
        augmentation: Augmentation = NO_AUGMENTATION,
        *,
        seed: int,
        windows_per_video: int = 1,
        every: EveryFrames | None = None,
    ) -> None:
        if not items:
            raise UsageError("there is no video to train on")
        if type(windows_per_video) is not int or windows_per_video < 1:
            raise UsageError(f"windows_per_video must be a positive integer, not {windows_per_video!r}")
        if type(seed) is not int or seed < 0:
            raise UsageError(f"seed must be an integer of at least 0, not {seed!r}")
        self.items, self.clip, self.audio, self.augmentation = items, clip, audio, augmentation
        self.seed, self.windows_per_video = seed, windows_per_video
        self.epoch = 0
        self._places: list[tuple[int, int]] | None = None  # videos and target frames
        if every is not None:
            if windows_per_video != 1:
                raise UsageError("windows_per_video is for random windows; leave it out, or window_every")
            counts = [item.frame_count for item in items]
            self._places = [(n, t) for n, count in enumerate(counts) for t in every.targets(count, clip)]

    def set_epoch(self, epoch: int) -> None:
        """Choose other windows. Workers that are kept from epoch to epoch do not hear of it: let them start again."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.items) * self.windows_per_video if self._places is None else len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """A window with its map.

        Returns:
            video: (3, T, H, W) float32, normalised.
            audio: (S, 1, h, w) float32, the log-mel slices; of a model that hears.
            density: (H, W) float32, where people look in the target frame, summing to 1.
            fixations: (H, W) bool, the pixels that were fixated; none where the dataset does not state them.

        Raises:
            IndexError: there are not so many.
            DataError: a file is missing or damaged, or no frame of the video has a map that is not empty.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} windows in an epoch, not {index}")
        rng = np.random.default_rng((self.seed, self.epoch, index))
        variation = self.augmentation
        if self._places is None:
            item = self.items[index % len(self.items)]
            target, density = _choose_target(item, rng)
        else:
            number, target = self._places[index]
            item = self.items[number]
            found = item.density(target)
            target, density = (target, found) if found is not None and found.any() else _choose_target(item, rng)
        flipped = bool(rng.random() < variation.flip_share)
        coloured = bool(rng.random() < variation.colour_share)
        stride = int(rng.choice(variation.temporal_strides))
        gain = 10 ** (rng.uniform(-variation.gain_db, variation.gain_db) / 20)
        window = window_of(
            target,
            frame_times(item),
            1 / item.frame_rate_hz,
            self.clip,
            self.audio,
            stride=stride,
        )
        height, width = self.clip.height, self.clip.width
        numbers, taps = np.unique(window.frames, return_inverse=True)
        frames = np.stack([resize_frame(item.frame(int(number)), height, width) for number in numbers])
        if coloured:
            frames = vary_colour(rng, frames)
        fixations = fixation_map(item.fixations(target), item.size, height, width)
        density = resized_density(density, height, width)
        if flipped:
            frames, fixations, density = frames[:, :, ::-1], fixations[:, ::-1], density[:, ::-1]
        sample: Sample = {
            "video": normalise_clip(frames[taps], self.clip),
            "density": np.ascontiguousarray(density),
            "fixations": np.ascontiguousarray(fixations),
        }
        if self.audio is not None:
            samples = item.samples(self.audio.sample_rate_hz)
            if samples is not None and variation.gain_db:
                samples = np.clip(samples * np.float32(gain), -1, 1)
            sample["audio"] = mel_slices(samples, window.slices, self.audio)
        return sample


@dataclasses.dataclass(frozen=True)
class _Frame:
    index: int
    time_seconds: float
    rgb: Rgb


def evaluation_windows(
    item: VideoItem,
    clip: ClipSpec,
    audio: AudioSpec | None,
    *,
    stride: int = 1,
) -> Iterator[tuple[int, Sample]]:
    """The windows of a video's frames in order, each once, exactly as the runtime cuts them.

    Each frame is read once, and held at the model's size only while a window may need it.

    Args:
        item: the video.
        clip: the model's clip.
        audio: its sound slices, or None for a visual model.
        stride: only every stride-th frame has a window, and the last one.

    Yields:
        The target frame's number, and what the model takes: "video" (3, T, H, W), and "audio" (S, 1, h, w) if it hears.
    """
    windows = iter_windows(
        _small_frames(item, frame_times(item), clip),
        clip,
        source_interval_seconds=1 / item.frame_rate_hz,
        stride=stride,
    )
    slices: MelSlices | None = None
    if audio is not None:
        samples = item.samples(audio.sample_rate_hz)
        slices = MelSlices(audio, iter(() if samples is None else (samples,)))
    for window in windows:
        inputs: Sample = {"video": normalise_clip([frame.rgb for frame in window.frames], clip)}
        if slices is not None:
            inputs["audio"] = slices.window(window.centre_seconds)
        yield window.index, inputs


def resized_density(density: Floats, height: int, width: int) -> Floats:
    """A map (h, w) as a distribution of the model's size, (height, width), summing to 1; zeros stay zeros.

    Bilinear, and antialiased where it shrinks, so that no part of the map is skipped.
    """
    if density.shape != (height, width):
        scaled = Image.fromarray(np.ascontiguousarray(density, np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        density = np.asarray(scaled, np.float32)
    total = density.sum(dtype=np.float64)
    return (density / total).astype(np.float32) if total > 0 else np.zeros((height, width), np.float32)


def fixation_map(points: Points | None, size: tuple[int, int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Which pixels of the model's map (height, width) hold a fixation, of (n, 2) x and y in a frame of `size`.

    Those outside the frame are left out.
    """
    result = np.zeros((height, width), np.bool_)
    if points is not None and len(points):
        scale = np.array([width / size[1], height / size[0]])
        columns, rows = np.floor((points.astype(np.float64) + 0.5) * scale).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        result[rows[inside].astype(np.intp), columns[inside].astype(np.intp)] = True
    return result


def _choose_target(item: VideoItem, rng: np.random.Generator) -> tuple[int, Floats]:
    """A random frame whose map is not empty, and the map."""
    for number in rng.permutation(item.frame_count):
        density = item.density(int(number))
        if density is not None and density.any():
            return int(number), density
    raise DataError(f"no frame of {item.dataset}'s {item.name} has a map that is not empty; `dtfsal check` says more")


def _small_frames(item: VideoItem, times: Times, clip: ClipSpec) -> Iterator[_Frame]:
    for index, time in enumerate(times.tolist()):
        yield _Frame(index, time, resize_frame(item.frame(index), clip.height, clip.width))
