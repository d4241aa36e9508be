"""What a report says of each frame's map, as series over time.

- `entropy_bits`: the entropy of the map as a distribution over its cells. 0 is all attention on one cell; a map that is
  equal everywhere has the logarithm of its number of cells, 16.4 bits for 224x384.
- `peak_share`: the share of the map's attention within a circle around its largest value. The circle's diameter is a
  fifth of the frame's height.
- a series for each area of interest: the share of the map's attention inside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtfsal.applications.areas.coverage import circle, coverage, share_of
from dtfsal.applications.areas.shares import AreaShares
from dtfsal.runtime.media.video import VideoInfo
from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.prediction import SaliencyFrame

PEAK_RADIUS = 0.1  # of the frame's height
GENERAL = ("entropy_bits", "peak_share")  # the series that stand before those of areas


@dataclasses.dataclass(frozen=True)
class FrameMeasures:
    """A frame's figures.

    Attributes:
        index: of the frame.
        time_seconds: of the frame.
        peak_x: column of the map's largest value in pixels of the source; (0, 0) is the centre of the top left pixel.
        peak_y: row of it.
        values: of each series, in the order of `GENERAL` and the areas; None for a hidden area.
        low: the least of what the map, the mirrored frame and the muted sound give, for each series; None without
            those.
        high: the largest of them.
    """

    index: int
    time_seconds: float
    peak_x: float
    peak_y: float
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None


class Measurer:
    """Measures the frames of one video.

    Args:
        info: the video.
        areas: what to measure beside `GENERAL`.
    """

    def __init__(self, info: VideoInfo, areas: AreaShares) -> None:
        self._areas = areas
        self._size = info.height, info.width
        across, down = info.pixel_aspect
        shape = info.width * across / down / info.height  # of the displayed frame, width by height
        self._radius = PEAK_RADIUS / shape, PEAK_RADIUS

    def measure(self, frame: SaliencyFrame, others: Sequence[SaliencyMap] = ()) -> FrameMeasures:
        """A frame's figures.

        Args:
            frame: with its map.
            others: maps of the same frame, predicted otherwise, for `low` and `high`.
        """
        (height, width), cells = self._size, frame.saliency_map.shape
        row, column = self._peak(frame.saliency_map)
        values = self._values(frame.saliency_map, frame.time_seconds)
        low, high = (
            self._band([values, *(self._values(other, frame.time_seconds) for other in others)])
            if others
            else (None, None)
        )
        return FrameMeasures(
            frame.index,
            frame.time_seconds,
            (column + 0.5) * width / cells[1] - 0.5,
            (row + 0.5) * height / cells[0] - 0.5,
            values,
            low,
            high,
        )

    def _values(self, saliency_map: SaliencyMap, time_seconds: float) -> tuple[float | None, ...]:
        height, width = saliency_map.shape
        row, column = self._peak(saliency_map)
        around = coverage(circle(((column + 0.5) / width, (row + 0.5) / height), self._radius), height, width)
        shares = self._areas.measure(saliency_map, time_seconds)
        return entropy_bits(saliency_map), share_of(saliency_map, [around])[0], *shares

    @staticmethod
    def _peak(saliency_map: SaliencyMap) -> tuple[int, int]:
        columns: int = saliency_map.shape[1]
        return divmod(int(saliency_map.argmax()), columns)

    @staticmethod
    def _band(rows: Sequence[tuple[float | None, ...]]) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """The least and the largest of each series; an area is hidden in all maps of a frame, or in none."""
        low, high = [], []
        for series in zip(*rows, strict=True):
            known = [value for value in series if value is not None]
            low.append(min(known, default=None))
            high.append(max(known, default=None))
        return tuple(low), tuple(high)


def entropy_bits(saliency_map: SaliencyMap) -> float:
    """The entropy of a map as a distribution over its cells, in bits; 0 for a map that is zero everywhere."""
    positive = saliency_map[saliency_map > 0]
    whole = float(positive.sum(dtype=np.float64))
    if whole <= 0:
        return 0.0
    return float(np.log2(whole) - np.sum(positive * np.log2(positive), dtype=np.float64) / whole)
