"""From maps, as they come, to the crop's path: shot by shot, in memory that does not grow with the video.

A map is reduced to a grid of 36x64 shares at once. A shot is planned when it ends; one that goes on is planned in
pieces that look beyond what they settle, so that the next piece can always go on from there.
"""

from __future__ import annotations

import array
import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from dtfsal.applications.reframe.geometry import Framing
from dtfsal.applications.reframe.keep import KeepBox, kept_ranges
from dtfsal.applications.reframe.path import (
    Array,
    Motion,
    chosen_places,
    distance_losses,
    outside_losses,
    smooth_path,
)
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.maps import SaliencyMap, normalise_map, resize_map

Letterbox = Literal["auto", "never"]

GRID = (36, 64)  # rows and columns that a map is reduced to
PIECE_FRAMES = 600
AHEAD_FRAMES = 150
# Another window, apart from the crop, that holds so much of what the crop holds: two places matter.
SECOND_PLACE = 0.8
PLACES = 32  # centres among which the place to look at is chosen
# In window widths: where attention begins to lie apart from a window's centre, and what counts around the place chosen.
_APART, _NEAR = 1.0, 0.75
_CHANGE_OF_PLACE = 0.2  # price of a window width on the way to another place, in held share during a second
# A zooming window is so wide that seven tenths of the attention, about its median, fill this share of it.
_FILLED = 0.8
_ZOOM_PACE = 0.5  # of the window's own bounds: half the size changes so fast at most


@dataclasses.dataclass(frozen=True)
class ReframeSettings:
    """What is asked of a crop.

    Attributes:
        aspect: width over height of the result, as displayed.
        zoom: how far the window may close in: 1 for a fixed window, 2 for one of half the size.
        letterbox: "auto" shows the whole frame between bars in shots where two places matter, or where a box to keep
            is larger than the window; "never" crops always.
        motion: how the window may move.
        keep: boxes that it must hold.

    Raises:
        UsageError: the zoom is out of range.
    """

    aspect: float
    zoom: float = 1.0
    letterbox: Letterbox = "auto"
    motion: Motion = dataclasses.field(default_factory=Motion)
    keep: tuple[KeepBox, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.zoom <= 8:
            raise UsageError(f"the zoom lies between 1 and 8, not {self.zoom!r}")


@dataclasses.dataclass(frozen=True)
class Shot:
    """A stretch between two cuts.

    Attributes:
        first: number of its first frame.
        letterboxed: whether it shows the whole frame between bars.
    """

    first: int
    letterboxed: bool


@dataclasses.dataclass(frozen=True, eq=False)
class CropPath:
    """A window for each frame.

    Attributes:
        framing: the frame and the largest window.
        times: (n,) of the frames, in seconds; 0 is the first.
        windows: (n, 4) left, top, width and height, in pixels. Windows of the largest size lie on whole pixels.
        kept: (n,) the share of the attention in each window.
        shots: in order.
    """

    framing: Framing
    times: npt.NDArray[np.float64]
    windows: npt.NDArray[np.float32]
    kept: npt.NDArray[np.float32]
    shots: tuple[Shot, ...]


class PathPlanner:
    """Plans the crop of a video whose maps come one by one.

    Args:
        framing: of the video.
        settings: what is asked.
    """

    def __init__(self, framing: Framing, settings: ReframeSettings) -> None:
        self._framing = framing
        self._settings = settings
        self._times: list[float] = []  # of the frames that wait, with their grids
        self._grids: list[npt.NDArray[np.float32]] = []
        self._before: list[
            tuple[float, float, float, float]
        ] = []  # time, x, y, scale of the shot's last settled frames
        self._shots: list[Shot] = []
        self._begins = True  # whether the next settled frame is a shot's first
        self._settled = (array.array("d"), array.array("f"), array.array("f"))

    def add(self, time_seconds: float, saliency_map: SaliencyMap) -> None:
        """The next frame's map, (H, W), of any scale."""
        grid = normalise_map(resize_map(saliency_map, *GRID), "sum")
        self._times.append(time_seconds)
        self._grids.append(grid if grid.any() else np.full(GRID, 1 / (GRID[0] * GRID[1]), np.float32))
        if len(self._times) >= PIECE_FRAMES:
            self._settle(PIECE_FRAMES - AHEAD_FRAMES)

    def cut(self, index: int) -> None:
        """A shot begins with the frame of this number, which came at most `AHEAD_FRAMES` frames ago."""
        waiting = index - len(self._settled[0])
        if waiting > 0:
            self._settle(waiting, ends=True)
        self._begins, self._before = True, []

    def finish(self) -> CropPath:
        """The whole path."""
        if self._times:
            self._settle(len(self._times), ends=True)
        times, windows, kept = self._settled
        return CropPath(
            self._framing,
            np.array(times, np.float64),
            np.array(windows, np.float32).reshape(-1, 4),
            np.array(kept, np.float32),
            tuple(self._shots),
        )

    def _settle(self, count: int, *, ends: bool = False) -> None:
        """Settle the path of so many frames; of a shot that goes on, by what comes after them, too."""
        used = count if ends else len(self._times)
        times, grids = np.array(self._times[:used]), np.stack(self._grids[:used]).astype(np.float64)
        must = kept_ranges(self._settings.keep, times)
        x, y, scale = self._planned(times, grids, must)
        windows = self._windows(x, y, scale)
        if self._begins:
            whole = self._settings.letterbox == "auto" and self._shows_whole(grids, windows, must)
            self._shots.append(Shot(len(self._settled[0]), whole))
            self._begins = False
        self._before = list(zip(times[:count], x[:count], y[:count], scale[:count], strict=True))[-2:]
        if self._shots[-1].letterboxed:
            windows[:] = 0, 0, self._framing.source_width, self._framing.source_height
        kept = shares_within(grids, windows / self._frame_size())
        self._settled[0].extend(times[:count])
        self._settled[1].extend(windows[:count].ravel())
        self._settled[2].extend(kept[:count])
        del self._times[:count], self._grids[:count]

    def _planned(self, times: Array, grids: Array, must: Array) -> tuple[Array, Array, Array]:
        """Centres and scale of the windows, in sizes of the largest window."""
        framing, motion = self._framing, self._settings.motion
        before = np.array(self._before).reshape(-1, 4)
        first = len(before)
        all_times = np.concatenate([before[:, 0], times])
        sizes = framing.source_width / framing.width, framing.source_height / framing.height
        shares = [grids.sum(axis=axis) for axis in (1, 2)]  # by column, by row
        places = [_places(share.shape[1], size) for share, size in zip(shares, sizes, strict=True)]
        box = must / np.array([framing.width, framing.height] * 2)

        scale = np.ones(len(times))
        if self._settings.zoom > 1:
            least = 1 / self._settings.zoom
            spread = np.max([_spread(share, place) for share, place in zip(shares, places, strict=True)], axis=0)
            targets = np.clip(spread / _FILLED, least, 1.0)
            needed = np.clip(np.fmax(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]), least, 1.0)
            pace = dataclasses.replace(
                motion, speed=motion.speed * _ZOOM_PACE, acceleration=motion.acceleration * _ZOOM_PACE
            )
            fixed, targets = before[:, 3], np.concatenate([before[:, 3], targets])
            low, high = np.full(len(targets), least), np.ones(len(targets))
            low[:first] = high[:first] = fixed
            keep = _after(first, needed, np.where(np.isnan(needed), np.nan, np.inf), most=1e3)
            scale = smooth_path(all_times, distance_losses(targets), low, high, pace, keep=keep)[first:]

        centres = []
        for axis in (0, 1):
            half = scale / 2
            low = np.concatenate([before[:, 1 + axis], half])
            high = np.concatenate([before[:, 1 + axis], np.maximum(sizes[axis] - half, half)])
            if np.allclose(low, high, atol=2 / (framing.width, framing.height)[axis]):
                centres.append(np.full(len(times), sizes[axis] / 2))
                continue
            share = np.concatenate([np.repeat(shares[axis][:1], first, axis=0), shares[axis]])
            halves = np.concatenate([np.full(first, 0.5), half])
            candidates = np.linspace(half.min(), sizes[axis] - half.min(), PLACES)
            held = held_shares(share, sizes[axis], candidates, halves)
            chosen = chosen_places(held, candidates, _durations(all_times), _CHANGE_OF_PLACE)
            near = np.abs(places[axis][None, :] - chosen[:, None]) <= _NEAR
            losses = outside_losses(share * near, places[axis], motion.dead_zone * halves, low, high)
            near, far = box[:, axis], box[:, 2 + axis]
            bound = far - half, near + half
            middle = np.clip((near + far) / 2, half, sizes[axis] - half)
            fits = bound[0] <= bound[1]
            keep = _after(first, np.where(fits, bound[0], middle), np.where(fits, bound[1], middle))
            centres.append(smooth_path(all_times, losses, low, high, motion, keep=keep)[first:])
        return centres[0], centres[1], scale

    def _windows(self, x: Array, y: Array, scale: Array) -> npt.NDArray[np.float32]:
        """Windows in pixels, whole ones where the window is of a fixed size."""
        framing = self._framing
        width, height = framing.width * scale, framing.height * scale
        left, top = x * framing.width - width / 2, y * framing.height - height / 2
        if self._settings.zoom == 1:
            left, top = np.rint(left), np.rint(top)
        left = np.clip(left, 0, framing.source_width - width)
        top = np.clip(top, 0, framing.source_height - height)
        return np.stack([left, top, width, height], axis=1).astype(np.float32)

    def _shows_whole(self, grids: Array, windows: npt.NDArray[np.float32], must: Array) -> bool:
        """Whether a shot is better shown whole: two places matter, or something to keep does not fit."""
        framing = self._framing
        too_large = (must[:, 2] - must[:, 0] > framing.width) | (must[:, 3] - must[:, 1] > framing.height)
        if too_large.any():
            return True
        axis = 0 if framing.source_width - framing.width > framing.source_height - framing.height else 1
        size = (framing.source_width / framing.width, framing.source_height / framing.height)[axis]
        share = grids.sum(axis=1 + axis)
        places = _places(share.shape[1], size)
        centres = (windows[:, axis] + windows[:, 2 + axis] / 2) / (framing.width, framing.height)[axis]
        away = np.abs(places[None, :] - centres[:, None])
        candidates = np.linspace(0, size, PLACES)
        half = np.full(len(share), 0.5)
        second = held_shares(share * (away > _APART), size, candidates, half).max(axis=1)
        return bool(second.mean() >= SECOND_PLACE * (share * (away <= 0.5)).sum(axis=1).mean())

    def _frame_size(self) -> npt.NDArray[np.float32]:
        return np.array([self._framing.source_width, self._framing.source_height] * 2, np.float32)


def shares_within(grids: npt.ArrayLike, windows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The share of each map in its window; a cell that lies partly in it counts by its part.

    Args:
        grids: (n, rows, columns), each of sum 1.
        windows: (n, 4) left, top, width and height, as shares of the frame.
    """
    values, boxes = np.asarray(grids, np.float64), np.asarray(windows, np.float64)
    rows = _overlap(boxes[:, 1], boxes[:, 3], values.shape[1])
    columns = _overlap(boxes[:, 0], boxes[:, 2], values.shape[2])
    return np.asarray(np.einsum("nr,nrc,nc->n", rows, values, columns), np.float32)


def held_shares(share: Array, size: float, centres: Array, half: Array) -> Array:
    """The share of attention in the window around each of several centres.

    Args:
        share: (n, cells) along an axis.
        size: of the frame, in window widths.
        centres: (k,) in window widths.
        half: (n,) half a window.

    Returns:
        (n, k).
    """
    cells = share.shape[1]
    sums = np.cumsum(np.pad(share, ((0, 0), (1, 0))), axis=1)
    frames = np.arange(len(share))[:, None]

    def until(edge: Array) -> Array:
        position = np.clip(edge / size * cells, 0, cells)
        cell = np.minimum(position.astype(np.intp), cells - 1)
        return np.asarray(sums[frames, cell] + (position - cell) * share[frames, cell])

    return np.asarray(until(centres[None, :] + half[:, None]) - until(centres[None, :] - half[:, None]))


def _durations(times: Array) -> Array:
    return np.diff(times, append=2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1.0)


def _places(cells: int, size: float) -> Array:
    """Middles of the cells that divide an axis."""
    return np.asarray((np.arange(cells) + 0.5) / cells * size)


def _overlap(start: Array, length: Array, cells: int) -> Array:
    """(n, cells) how much of each cell an interval covers, from 0 to 1."""
    edges = np.arange(cells)
    first, last = start[:, None] * cells, (start + length)[:, None] * cells
    return np.asarray(np.clip(np.minimum(last, edges + 1) - np.maximum(first, edges), 0, 1))


def _spread(share: Array, places: Array) -> Array:
    """How wide the middle seven tenths of a distribution are: (n,)."""
    sums = np.cumsum(share, axis=1)
    ends = [np.array([np.interp(level, row, places) for row in sums]) for level in (0.15, 0.85)]
    return np.asarray(ends[1] - ends[0])


def _after(first: int, low: Array, high: Array, most: float = np.inf) -> tuple[Array, Array] | None:
    """Ranges to keep behind so many settled frames, or None if there are none."""
    none = np.isnan(low)
    if none.all():
        return None
    nothing = np.full(first, np.inf)
    low, high = np.where(none, -np.inf, low), np.where(none, np.inf, np.minimum(high, most))
    return np.concatenate([-nothing, low]), np.concatenate([nothing, high])
