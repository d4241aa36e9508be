"""Saliency maps as pictures: the jet colour map, the overlay over a frame, the grey picture.

    picture = overlay(frame_rgb, saliency_map)  # (H, W, 3) uint8

Pictures are for eyes: a map is scaled so that its largest value is full (`normalise_map(..., "max")`) unless asked
otherwise, quantised to 256 levels at its own resolution and enlarged to the frame's.
"""

import functools

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.maps import Normalisation, normalise_map

Picture = npt.NDArray[np.uint8]

# Share of the colour in the overlay where the map is full; the frame shows through everywhere.
MAX_OPACITY = 0.7
# Rows blended at once, so that the intermediate values stay in the processor's cache.
_STRIP_ROWS = 16


@functools.cache
def jet_colours() -> Picture:
    """The jet colour map, (256, 3) uint8 RGB: dark blue, blue, cyan, yellow, red, dark red.

    Closed form: at x in [0, 1] red, green and blue are 1.5 - |4 x - c| with c = 3, 2, 1, clipped to [0, 1].
    """
    position = 4 * np.arange(256)[:, None] / 255
    colours = np.clip(1.5 - np.abs(position - np.array([3.0, 2.0, 1.0])), 0.0, 1.0)
    table = np.asarray(np.round(255 * colours), np.uint8)
    table.setflags(write=False)
    return table


def picture_levels(
    saliency_map: npt.ArrayLike, height: int, width: int, normalisation: Normalisation = "max"
) -> Picture:
    """A map as levels 0..255 at a picture's resolution.

    Args:
        saliency_map: (h, w), not negative.
        height: of the result, in pixels.
        width: of the result, in pixels.
        normalisation: how the map is scaled first; values beyond [0, 1] are clipped.

    Returns:
        (height, width) uint8.
    """
    from PIL import Image

    values = normalise_map(saliency_map, normalisation)
    levels = np.round(255 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    if levels.shape == (height, width):
        return levels
    return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))


def grey_picture(saliency_map: npt.ArrayLike, height: int, width: int, normalisation: Normalisation = "max") -> Picture:
    """A map as a grey picture, (height, width, 3) uint8 RGB, white where it is full; see `picture_levels`."""
    levels = picture_levels(saliency_map, height, width, normalisation)
    return np.repeat(levels[:, :, None], 3, axis=2)


def overlay(
    rgb: Picture,
    saliency_map: npt.ArrayLike,
    *,
    normalisation: Normalisation = "max",
    max_opacity: float = MAX_OPACITY,
) -> Picture:
    """A map in the jet colours over its frame; where the map is low the frame shows unchanged.

    The colour's share at level v in 0..255 is max_opacity * v / 255, in steps of 1/256.

    Args:
        rgb: the frame, (H, W, 3) uint8.
        saliency_map: (h, w) of any size, not negative.
        normalisation: how the map is scaled; see `picture_levels`.
        max_opacity: share of the colour where the map is full, in [0, 1].

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        UsageError: the frame is not HWC RGB uint8, or the opacity is out of range.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UsageError(f"a frame must be (H, W, 3) uint8 RGB, not {rgb.shape} {rgb.dtype}")
    frame_share, colour = _blend_tables(max_opacity)
    height, width = rgb.shape[:2]
    levels = picture_levels(saliency_map, height, width, normalisation)
    result = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = levels[rows].astype(np.intp)
        share = frame_share.take(strip, mode="clip")
        for channel in range(3):
            mixed = share * rgb[rows, :, channel]
            mixed += colour[channel].take(strip, mode="clip")
            mixed >>= 8
            result[rows, :, channel] = mixed
    return result


@functools.lru_cache(maxsize=8)
def _blend_tables(max_opacity: float) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """For each level the frame's share in 256ths (256,), and the colour times its share (3, 256).

    frame * (256 - a) + colour * a + 128 is at most 255 * 256 + 128, so 16 bits hold it.
    """
    if not 0.0 <= max_opacity <= 1.0:
        raise UsageError(f"max_opacity must be in [0, 1], not {max_opacity!r}")
    share = np.round(256 * max_opacity * np.arange(256) / 255).astype(np.uint16)
    colour = jet_colours().T.astype(np.uint16) * share + np.uint16(128)
    return np.uint16(256) - share, np.ascontiguousarray(colour)
