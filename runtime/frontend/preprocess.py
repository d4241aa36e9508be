"""Frames and sound to what the model takes, once for training and runtime alike, without torch."""

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dtfsal.engines.arrays import host_array
from dtfsal.engines.bundle.specs import ClipSpec
from dtfsal.engines.errors import UsageError

Rgb = npt.NDArray[np.uint8]
Color = Literal["rgb", "bgr"]


def rgb_frame(frame: object, color: Color = "rgb") -> Rgb:
    """A frame of any library as a view of its RGB, in the same memory.

    Args:
        frame: (H, W, 3) uint8; NumPy's, or what `dtfsal.engines.arrays.host_array` takes.
        color: the order of its channels; OpenCV's is "bgr".

    Raises:
        UsageError: it is not such a frame, or lies on a GPU, or there is no such order.
    """
    if color not in get_args(Color):
        raise UsageError(f"color must be one of {', '.join(get_args(Color))}, not {color!r}")
    array = host_array(frame, "a frame")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(f"a frame must be (H, W, 3) uint8 {color.upper()}, not {array.shape} {array.dtype}")
    return array if color == "rgb" else array[:, :, ::-1]


def resize_frame(rgb: Rgb, height: int, width: int) -> Rgb:
    """An RGB frame squashed to the model's size: Pillow's bilinear filter, antialiased where it shrinks.

    Args:
        rgb: (H, W, 3) uint8.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height, width, 3) uint8, a new array: the caller may use the frame's memory for the next one.

    Raises:
        UsageError: the frame is not HWC RGB uint8.
    """
    from PIL import Image

    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UsageError(f"a frame must be (H, W, 3) uint8 RGB, not {rgb.shape} {rgb.dtype}")
    if rgb.shape[:2] == (height, width):
        return np.array(rgb, order="C")
    image = Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def normalise_clip(
    frames: Sequence[Rgb] | Rgb, clip: ClipSpec, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Resized frames to the model's video input, (x / 255 - mean) / std.

    Args:
        frames: T frames (height, width, 3) uint8.
        clip: the clip's size and its mean and std.
        out: (3, T, height, width) float32 to write into, or None to allocate.

    Returns:
        (3, T, height, width) float32.

    Raises:
        UsageError: the frames are not as many or not as large as the clip's, or `out` is another array.
    """
    shape = (3, clip.frames, clip.height, clip.width)
    wanted = f"({clip.height}, {clip.width}, 3) uint8"
    found = sorted({f"{frame.shape} {frame.dtype}" for frame in frames})
    if len(frames) != clip.frames or found != [wanted]:
        raise UsageError(f"a clip takes {clip.frames} frames of {wanted}, not {len(frames)} of {', '.join(found)}")
    if out is not None and (out.shape != shape or out.dtype != np.float32):
        raise UsageError(f"out must be {shape} float32, not {out.shape} {out.dtype}")
    result = np.empty(shape, np.float32) if out is None else out
    table = normalisation_table(clip)
    for time, frame in enumerate(frames):
        for channel in range(3):
            np.take(table[channel], frame[:, :, channel], out=result[channel, time], mode="clip")
    return result


@functools.lru_cache(maxsize=8)
def normalisation_table(clip: ClipSpec) -> npt.NDArray[np.float32]:
    """(3, 256) normalised value of each level of each channel."""
    levels = np.arange(256) / 255.0
    mean, std = np.array(clip.mean)[:, None], np.array(clip.std)[:, None]
    return np.asarray((levels - mean) / std, np.float32)
