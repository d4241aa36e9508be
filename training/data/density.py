"""Fixations as points, and as the density that maps are held to; conventions in docs/reference/metrics.md."""

import math

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError

_Array = npt.NDArray[np.float64]


def fixation_density(
    fixations: npt.ArrayLike,
    height: int,
    width: int,
    sigma: float | tuple[float, float],
) -> npt.NDArray[np.float64]:
    """The ground-truth density: a Gaussian around every fixation, at its exact position, the sum scaled to 1.

    The part of a Gaussian that lies outside the frame is lost, so a fixation at the border weighs less.

    Args:
        fixations: (n, 2) positions (x, y) in pixels of the map.
        height: of the map, in pixels.
        width: of the map, in pixels.
        sigma: standard deviation in pixels, at least 0.5: a narrower Gaussian falls between the pixels. Two values are
            those down and across, for a map that has been squashed.

    Returns:
        (height, width) float64; zeros if no fixation is in the frame.
    """
    if height < 1 or width < 1:
        raise UsageError(f"a density must have at least one pixel, got {height}x{width}")
    sigma_y, sigma_x = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    if not (math.isfinite(sigma_y + sigma_x) and min(sigma_y, sigma_x) >= 0.5):
        raise UsageError(f"sigma must be at least 0.5 pixels, got {sigma}")
    points = fixation_points(fixations)
    points = points[inside_frame(points, (height, width))]
    if not len(points):
        return np.zeros((height, width))
    across = np.exp(-0.5 * ((np.arange(width) - points[:, :1]) / sigma_x) ** 2)  # (n, W)
    down = np.exp(-0.5 * ((np.arange(height) - points[:, 1:]) / sigma_y) ** 2)  # (n, H)
    density: _Array = down.T @ across  # (H, n) @ (n, W) -> (H, W)
    return density / density.sum()


def fixation_points(fixations: npt.ArrayLike) -> _Array:
    """Fixations as (n, 2) float64.

    Raises:
        UsageError: they are not positions (x, y).
    """
    points = np.asarray(fixations, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError(f"fixations must be (n, 2) positions (x, y), got {points.shape}")
    return points


def inside_frame(points: _Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which points lie in a pixel of the frame; NaN compares as outside."""
    height, width = shape
    columns, rows = np.floor(points + 0.5).T
    return (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
