"""From maps to a few rectangles of finer and coarser quantisation, which change a few times a second.

Encoders quantise in steps that double every 6 QP, so the error (a step squared) doubles every 3 QP. At a high rate the
sum of w * error over the picture is least for a given number of bits where the error is inverse to the weight w, so
the density of attention asks for

    offset = -3 * log2(density in the region / mean density of the frame),

bounded by the strength. Rectangles are the boxes around connected cells above 4, 2 and 1 times the mean density. The
rest of the frame is one region more.
"""

from __future__ import annotations

import array
import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.maps import SaliencyMap, normalise_map, resize_map

GRID = (18, 32)  # rows and columns that a map is reduced to
# Of each density, in shares of the mean, the boxes of so many largest pieces. With the whole frame: 8 regions, as many
# as AV1 has segments.
LEVELS = ((4.0, 2), (2.0, 3), (1.0, 2))
INTERVAL_SECONDS = 0.2  # how long regions stay
_QP_PER_DOUBLING = 3.0
_STEPS = 4  # of an offset in a QP, as they are held
_NUMBERS = 5  # of a region


@dataclasses.dataclass(frozen=True)
class Region:
    """A rectangle and the change of its quantiser.

    Attributes:
        left: in pixels; edges, as the others.
        top: in pixels.
        right: in pixels.
        bottom: in pixels.
        qp_offset: in QP of H.264 and H.265, where 6 double the step; negative is finer.
    """

    left: int
    top: int
    right: int
    bottom: int
    qp_offset: float


Regions = tuple[Region, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class RegionTrack:
    """Regions of a video over time; where some overlap, the first counts.

    Attributes:
        width: of the frame, in pixels.
        height: of the frame.
        times: (n,) from when on each set of regions holds, in seconds; the first is 0.
        counts: (n,) how many regions each set has.
        numbers: (sum of counts, 5) int16: left, top, right, bottom, and quarters of a QP.
    """

    width: int
    height: int
    times: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int16]
    numbers: npt.NDArray[np.int16]

    def __iter__(self) -> Iterator[tuple[float, Regions]]:
        """From when on, and which regions."""
        ends = np.cumsum(self.counts)
        for time, count, end in zip(self.times.tolist(), self.counts.tolist(), ends.tolist(), strict=True):
            rows = self.numbers[end - count : end].tolist()
            yield time, tuple(Region(a, b, c, d, quarters / _STEPS) for a, b, c, d, quarters in rows)


class RegionPlanner:
    """Collects the regions of a video whose maps come one by one.

    Memory grows by 100 bytes for each fifth of a second at most.

    Args:
        width: of the frame, in pixels.
        height: of the frame.
        strength: the largest offset, in QP.

    Raises:
        UsageError: the strength is out of range.
    """

    def __init__(self, width: int, height: int, strength: float) -> None:
        if not 0 <= strength <= 20:
            raise UsageError(f"the strength is a number of QP from 0 to 20, not {strength!r}")
        self._size = width, height
        self._strength = strength
        self._sum = np.zeros(GRID, np.float64)
        self._begin = 0.0  # of the interval whose maps are summed
        self._last: Regions | None = None
        self._times, self._counts, self._numbers = array.array("d"), array.array("h"), array.array("h")

    def add(self, time_seconds: float, saliency_map: SaliencyMap) -> None:
        """The next frame's map, (H, W), of any scale."""
        if time_seconds - self._begin >= INTERVAL_SECONDS - 1e-6 and self._sum.any():
            self._close()
            self._begin = time_seconds
        self._sum += normalise_map(resize_map(saliency_map, *GRID), "sum")

    def finish(self) -> RegionTrack:
        """The whole track."""
        self._close()
        numbers = np.array(self._numbers, np.int16).reshape(-1, _NUMBERS)
        times = np.array(self._times, np.float64)
        return RegionTrack(*self._size, times, np.array(self._counts, np.int16), numbers)

    def _close(self) -> None:
        regions = regions_of(self._sum, *self._size, self._strength)
        self._sum[:] = 0
        if regions == self._last:
            return
        self._last = regions
        self._times.append(self._begin if self._times else 0.0)
        self._counts.append(len(regions))
        for region in regions:
            self._numbers.extend(
                (region.left, region.top, region.right, region.bottom, round(region.qp_offset * _STEPS))
            )


def regions_of(density: npt.ArrayLike, width: int, height: int, strength: float) -> Regions:
    """The regions of one map, the most attended first, the whole frame last.

    Args:
        density: (rows, columns) of attention, not negative.
        width: of the frame, in pixels.
        height: of the frame.
        strength: the largest offset, in QP.
    """
    from scipy import ndimage

    cells = np.asarray(density, np.float64)
    mean = cells.mean()
    if mean <= 0 or strength == 0:
        return (Region(0, 0, width, height, 0.0),)
    cells = cells / mean
    free = np.ones(cells.shape, bool)  # not yet in a region
    found: list[Region] = []
    for level, most in LEVELS:
        labels, _ = ndimage.label(cells >= level)
        boxes = ndimage.find_objects(labels)
        masses = [float((cells[box] * free[box]).sum()) for box in boxes]
        for number in sorted(range(len(boxes)), key=lambda piece: -masses[piece])[:most]:
            box = boxes[number]
            if not free[box].any():
                continue
            found.append(_region(box, cells[box][free[box]].mean(), cells.shape, (width, height), strength))
            free[box] = False
    rest = cells[free].mean() if free.any() else 1.0
    whole = (slice(0, cells.shape[0]), slice(0, cells.shape[1]))
    return (*found, _region(whole, rest, cells.shape, (width, height), strength))


def centre_density(spread: float = 0.2) -> npt.NDArray[np.float32]:
    """A gaussian at the centre, in `GRID`, of a standard deviation in shares of the frame: knows no video."""
    rows, columns = ((np.arange(count) + 0.5) / count - 0.5 for count in GRID)
    return np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * spread**2)).astype(np.float32)


def offset_grid(regions: Regions, columns: int, rows: int, block: float) -> npt.NDArray[np.float64]:
    """(rows, columns) the offset in QP at the middle of each square block; `block` is its side in pixels."""
    grid = np.zeros((rows, columns))
    x, y = (_middles(count, block, side) for count, side in ((columns, regions[-1].right), (rows, regions[-1].bottom)))
    for region in reversed(regions):  # the first counts
        inside = np.outer((y >= region.top) & (y < region.bottom), (x >= region.left) & (x < region.right))
        grid[inside] = region.qp_offset
    return grid


def _middles(count: int, block: float, side: int) -> npt.NDArray[np.float64]:
    """Of blocks along a side of the frame; the last may reach beyond it, and counts as far as it lies in the frame."""
    starts = np.arange(count) * block
    return np.asarray((starts + np.minimum(starts + block, side)) / 2)


def _region(
    box: tuple[slice, slice], density: float, shape: tuple[int, ...], size: tuple[int, int], strength: float
) -> Region:
    offset = -_QP_PER_DOUBLING * math.log2(max(density, 1e-6))
    offset = round(min(max(offset, -strength), strength) * _STEPS) / _STEPS
    (rows, columns), (width, height) = box, size
    return Region(
        columns.start * width // shape[1],
        rows.start * height // shape[0],
        -(-columns.stop * width // shape[1]),
        -(-rows.stop * height // shape[0]),
        offset,
    )
