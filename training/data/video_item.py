"""What all of a dataset's videos can be asked, whatever they lie on a disk as."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dtfsal.training.data.stills import Points, Rgb

Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


class VideoItem(Protocol):
    """A video and where people look in it. Frames count from 0. Nothing is read before it is asked for."""

    @property
    def name(self) -> str:
        """Its name in the dataset."""

    @property
    def dataset(self) -> str:
        """The dataset's name."""

    @property
    def frame_count(self) -> int:
        """How many frames there are."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second, on average."""

    @property
    def has_sound(self) -> bool:
        """Whether there is sound."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames, in pixels."""

    def frame(self, index: int) -> Rgb:
        """(H, W, 3) uint8."""

    def density(self, index: int) -> Floats | None:
        """(h, w), where people look in a frame, not negative and on any scale; None where nothing tells.

        Its size need not be the frame's. All zeros is a map, too: one of a frame that nobody looked at.
        """

    def fixations(self, index: int) -> Points | None:
        """(n, 2), x and y in pixels of `size`; None where nothing tells."""

    def samples(self, sample_rate_hz: int) -> Floats | None:
        """(n,), mono, in [-1, 1], from the first frame on; None where there is no sound."""


@runtime_checkable
class TimedVideoItem(Protocol):
    """A video that knows the time of each of its frames."""

    @property
    def frame_times_seconds(self) -> Times:
        """(frame_count,), increasing from 0."""


def frame_times(item: VideoItem) -> Times:
    """The time of each frame in seconds, (frame_count,): what the item says, or what its frame rate makes of it."""
    if isinstance(item, TimedVideoItem):
        return item.frame_times_seconds
    return np.arange(item.frame_count, dtype=np.float64) / item.frame_rate_hz
