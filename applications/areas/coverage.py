"""Which share of each cell of a map an outline covers, exactly.

A box's cells are products of overlaps. An ellipse's come from the closed form of the area of a disc left of and above a
point. A polygon's come from the area to the right of each of its edges, summed over the edges of each cell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dtfsal.applications.areas.model import Outline, Point

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """The part of a map that an outline touches.

    Attributes:
        top: the first row.
        left: the first column.
        shares: (rows, columns) in [0, 1], the covered share of each cell.
    """

    top: int
    left: int
    shares: Values

    def total(self, saliency_map: npt.ArrayLike) -> float:
        """The sum of a map inside the outline; cells at its edge count by the share that is covered."""
        rows, columns = self.shares.shape
        part = np.asarray(saliency_map)[self.top : self.top + rows, self.left : self.left + columns]
        return float(np.sum(part * self.shares, dtype=np.float64))


def coverage(outline: Outline, height: int, width: int) -> Coverage:
    """The cells that an outline covers.

    Args:
        outline: in fractions of the frame.
        height: rows of the map.
        width: columns of the map.

    Returns:
        Exact shares. Where a polygon crosses itself, the cells at the crossing are approximate, and what it goes round
        more than once counts once.
    """
    points = np.asarray(outline.points, np.float64) * (width, height)
    left, right = _cells(points[:, 0], width)
    top, bottom = _cells(points[:, 1], height)
    columns, rows = np.arange(left, right + 1.0), np.arange(top, bottom + 1.0)
    if outline.shape == "box":
        shares = np.outer(_overlaps(rows, points[:, 1]), _overlaps(columns, points[:, 0]))
    elif outline.shape == "ellipse":
        shares = _ellipse(rows, columns, points)
    else:
        shares = _polygon(points - (left, top), bottom - top, right - left)
    return Coverage(top, left, np.clip(shares, 0.0, 1.0))


def circle(centre: Point, radius: Point) -> Outline:
    """The ellipse around a point, in fractions of the frame: a circle where the radii fit the frame's sides."""
    (x, y), (across, down) = centre, radius
    return Outline("ellipse", ((x - across, y - down), (x + across, y + down)))


def _cells(positions: Values, size: int) -> tuple[int, int]:
    """The first and one after the last cell that positions reach."""
    first = min(max(math.floor(positions.min()), 0), size)
    last = min(max(math.ceil(positions.max()), first), size)
    return first, last


def _overlaps(edges: Values, ends: Values) -> Values:
    """The share of each cell between two edges that lies between two ends."""
    overlaps: Values = np.minimum(edges[1:], ends[1]) - np.maximum(edges[:-1], ends[0])
    return np.maximum(overlaps, 0.0, out=overlaps)


def _ellipse(rows: Values, columns: Values, corners: Values) -> Values:
    centre, radii = corners.mean(axis=0), (corners[1] - corners[0]) / 2
    x = np.clip((columns - centre[0]) / radii[0], -1.0, 1.0)[None, :]
    y = np.clip((rows - centre[1]) / radii[1], -1.0, 1.0)[:, None]
    quadrants = _disc_quadrant(x, y) * radii[0] * radii[1]
    return np.asarray(np.diff(np.diff(quadrants, axis=0), axis=1), np.float64)


def _disc_quadrant(x: Values, y: Values) -> Values:
    """The area of the unit disc left of x and above y (smaller y), for x and y in [-1, 1]."""

    def half_segment(position: Values) -> Values:
        """The integral of sqrt(1 - t^2) from -1 on."""
        return (position * np.sqrt(1 - position**2) + np.arcsin(position)) / 2 + np.pi / 4

    reach = np.sqrt(1 - y**2)  # the line at y cuts the disc at -reach and reach
    inner = np.clip(x, -reach, reach)
    strip = half_segment(inner) - half_segment(-reach)
    below = np.where(y >= 0, strip - y * (inner + reach), 0.0)
    above = strip + y * (inner + reach)
    return np.where(y >= 0, 2 * half_segment(x) - below, above)


def _polygon(points: Values, rows: int, columns: int) -> Values:
    """Cells of a window in whose coordinates the points are."""
    if rows == 0 or columns == 0:
        return np.zeros((rows, columns))
    pieces = [
        _pieces(start, end, rows, columns) for start, end in zip(points, np.roll(points, -1, axis=0), strict=True)
    ]
    x, y, to_x, to_y = np.concatenate(pieces, axis=1)
    row = np.clip(np.floor((y + to_y) / 2), 0, rows - 1).astype(np.intp)
    middle = (x + to_x) / 2
    column = np.clip(np.floor(middle), 0, columns).astype(np.intp)  # one more than there are: right of the window
    fall = to_y - y
    places = row * (columns + 2) + column
    size = rows * (columns + 2)
    # What lies right of a piece: part of its own cell, and all of the cells behind it.
    own = np.bincount(places, fall * (1 - (middle - column)), size)
    behind = np.bincount(places + 1, fall * (middle - column), size)
    signed = np.cumsum((own + behind).reshape(rows, columns + 2), axis=1)[:, :columns]
    return np.abs(signed)


def _pieces(start: Values, end: Values, rows: int, columns: int) -> Values:
    """An edge cut at the lines between cells, (4, n): x, y and where to. Above and below the window nothing is left."""
    step = end - start
    if step[1] == 0:
        return np.empty((4, 0))
    cuts: list[Values] = [np.array([0.0, 1.0])]
    for axis, cells in ((0, columns), (1, rows)):
        if step[axis] != 0:
            low, high = sorted((start[axis], end[axis]))
            lines = np.arange(max(0, math.ceil(low)), min(cells, math.floor(high)) + 1)
            cuts.append((lines - start[axis]) / step[axis])
    times = np.unique(np.clip(np.concatenate(cuts), 0.0, 1.0))
    x = np.clip(start[0] + times * step[0], 0.0, columns)
    y = np.clip(start[1] + times * step[1], 0.0, rows)
    return np.stack([x[:-1], y[:-1], x[1:], y[1:]])


def share_of(saliency_map: npt.ArrayLike, covered: Sequence[Coverage]) -> list[float]:
    """The share of a map's attention inside each outline; 0 for a map that is zero everywhere."""
    values = np.asarray(saliency_map)
    whole = float(np.sum(values, dtype=np.float64))
    return [part.total(values) / whole if whole > 0 else 0.0 for part in covered]
