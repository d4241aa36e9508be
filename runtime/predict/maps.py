"""What is done to saliency maps after the engine: smoothing, normalisation, resizing, and where they peak.

Coordinates count pixel centres: (0, 0) is the centre of the top left pixel, x grows to the right and y downwards, so
the right edge of an image of W pixels is at x = W - 0.5.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import checked_argument

SaliencyMap = npt.NDArray[np.float32]
Normalisation = Literal["none", "max", "sum", "range"]
NORMALISATIONS: tuple[Normalisation, ...] = ("none", "max", "sum", "range")

# A gaussian is cut off where it has fallen to exp(-8), 3e-4 of its peak.
_TRUNCATE_SIGMAS = 4.0


@dataclasses.dataclass(frozen=True)
class MapStatistics:
    """Where a map points, in pixels of the image it belongs to.

    Attributes:
        peak_x: column of the map's largest value; of several equal ones, the first in reading order.
        peak_y: row of it.
        peak_value: the largest value, in the map's own unit.
        centre_x: column of the centre of mass; the image's centre where the map is zero everywhere.
        centre_y: row of it.
    """

    peak_x: float
    peak_y: float
    peak_value: float
    centre_x: float
    centre_y: float


def normalise_map(saliency_map: npt.ArrayLike, normalisation: Normalisation) -> SaliencyMap:
    """A map brought to a common scale.

    Args:
        saliency_map: (H, W), not negative.
        normalisation: "none" leaves it, "max" divides by the largest value, "sum" makes a distribution that sums to 1
            (what KL and SIM compare), "range" maps the least value to 0 and the largest to 1.

    Returns:
        (H, W) float32. A map that has nothing to scale (all zero; for "range" all equal) becomes zero everywhere.

    Raises:
        UsageError: there is no such normalisation.
    """
    check_normalisation(normalisation)
    values = np.asarray(saliency_map, np.float32)
    if normalisation == "none":
        return values
    if normalisation == "max":
        low, scale = 0.0, float(values.max())
    elif normalisation == "sum":
        low, scale = 0.0, float(values.sum(dtype=np.float64))
    else:
        low = float(values.min())
        scale = float(values.max()) - low
    return np.zeros_like(values) if scale <= 0 else (values - np.float32(low)) / np.float32(scale)


def smooth_map(saliency_map: npt.ArrayLike, sigma: float) -> SaliencyMap:
    """A map blurred by a gaussian.

    Args:
        saliency_map: (H, W).
        sigma: standard deviation in the map's own pixels; 0 for no blur. The kernel is cut off at 4 sigma and sums to
            1; beyond the border the map is mirrored, edge pixels repeated, so its sum stays.

    Returns:
        (H, W) float32.

    Raises:
        UsageError: sigma is negative or not finite.
    """
    check_sigma(sigma)
    values = np.asarray(saliency_map, np.float32)
    radius = math.ceil(_TRUNCATE_SIGMAS * sigma)
    if radius == 0:
        return values
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(values, padding, mode="symmetric")
        length = values.shape[axis]
        values = np.zeros_like(values)
        for offset, tap in enumerate(taps):
            window = padded[offset : offset + length] if axis == 0 else padded[:, offset : offset + length]
            values += tap * window
    return values


def check_normalisation(normalisation: str) -> None:
    """Raise a `UsageError` if there is no such normalisation."""
    if normalisation not in NORMALISATIONS:
        raise UsageError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")


def check_sigma(sigma: float) -> None:
    """Raise a `UsageError` if a blur's standard deviation is negative, too large or not a number."""
    checked_argument("smoothing", sigma)


def resize_map(saliency_map: npt.ArrayLike, height: int, width: int) -> SaliencyMap:
    """A map at another resolution: bilinear with half-pixel centres, antialiased where it shrinks.

    Args:
        saliency_map: (h, w).
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height, width) float32; values stay within those of the map.
    """
    from PIL import Image

    values = np.ascontiguousarray(saliency_map, np.float32)
    if values.shape == (height, width):
        return values
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR), np.float32)


def map_statistics(saliency_map: npt.ArrayLike, height: int, width: int) -> MapStatistics:
    """The peak and the centre of mass of a map, in pixels of the image that it belongs to.

    Args:
        saliency_map: (h, w), not negative.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    values = np.asarray(saliency_map, np.float64)
    rows, columns = values.shape
    row, column = divmod(int(values.argmax()), columns)
    total = float(values.sum())
    if total > 0:
        centre_row = float(values.sum(axis=1) @ np.arange(rows)) / total
        centre_column = float(values.sum(axis=0) @ np.arange(columns)) / total
    else:
        centre_row, centre_column = (rows - 1) / 2, (columns - 1) / 2

    def to_image(position: float, cells: int, pixels: int) -> float:
        return (position + 0.5) * pixels / cells - 0.5

    return MapStatistics(
        peak_x=to_image(column, columns, width),
        peak_y=to_image(row, rows, height),
        peak_value=float(values[row, column]),
        centre_x=to_image(centre_column, columns, width),
        centre_y=to_image(centre_row, rows, height),
    )
