"""A film's series and maps in bounded memory: what a page can show, however long the film is.

Each frame is a sample until there are too many. Then two neighbours become one, which shows the first one's map and
time and the mean of their series, and so on with every doubling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.applications.report.measures import FrameMeasures
from dtfsal.runtime.predict.maps import SaliencyMap

MOST_SAMPLES = 8192  # 5 minutes at 25 frames/s; one per second of two hours
MOST_ROWS, MOST_COLUMNS = 36, 64  # of a sample's map

Bytes = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]


class Samples:
    """Samples of one video.

    Args:
        series: how many there are.
        banded: whether frames have `low` and `high`.
        most: samples that are held.

    Attributes:
        step: frames in a sample; the last may have fewer.
    """

    def __init__(self, series: int, *, banded: bool = False, most: int = MOST_SAMPLES) -> None:
        self.step = 1
        self._frames = 0
        self._most = most + most % 2
        columns = series * (3 if banded else 1)
        self._banded, self._series = banded, series
        self._sums = np.zeros((self._most, columns))
        self._seconds = np.zeros((self._most, columns))
        self._times = np.zeros(self._most)
        self._indices = np.zeros(self._most, np.int64)
        self._maps: Bytes | None = None

    def add(self, measures: FrameMeasures, saliency_map: SaliencyMap, shown_seconds: float) -> None:
        """Take a frame.

        Args:
            measures: its figures.
            saliency_map: (H, W), not negative.
            shown_seconds: how long it is shown, above 0.
        """
        if self._frames == self.step * self._most:
            self._halve()
        place = self._frames // self.step
        if self._frames % self.step == 0:
            if self._maps is None:
                rows, columns = saliency_map.shape
                self._maps = np.zeros((self._most, min(rows, MOST_ROWS), min(columns, MOST_COLUMNS)), np.uint8)
            self._maps[place] = small_map(saliency_map, *self._maps.shape[1:])
            self._times[place], self._indices[place] = measures.time_seconds, measures.index
        row = measures.values
        if self._banded:
            assert measures.low is not None, "a banded sample's frames have a band"
            assert measures.high is not None, "a banded sample's frames have a band"
            row = row + measures.low + measures.high
        for column, value in enumerate(row):
            if value is not None:
                self._sums[place, column] += value * shown_seconds
                self._seconds[place, column] += shown_seconds
        self._frames += 1

    def __len__(self) -> int:
        return -(-self._frames // self.step)

    @property
    def times(self) -> Values:
        """(n,) seconds."""
        return self._times[: len(self)]

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """(n,) the first frame of each sample."""
        return self._indices[: len(self)]

    @property
    def maps(self) -> Bytes:
        """(n, h, w) in 0..255, each sample's largest value 255."""
        assert self._maps is not None, "there are samples"
        return self._maps[: len(self)]

    def series(self, number: int) -> Values:
        """(n,) the means of a series, NaN where it has no value."""
        return self._column(number)

    def band(self, number: int) -> tuple[Values, Values] | None:
        """The means of its least and of its largest values, or None."""
        if not self._banded:
            return None
        return self._column(number + self._series), self._column(number + 2 * self._series)

    def _column(self, column: int) -> Values:
        sums, seconds = self._sums[: len(self), column], self._seconds[: len(self), column]
        means: Values = np.full(len(sums), np.nan)
        return np.divide(sums, seconds, out=means, where=seconds > 0)

    def _halve(self) -> None:
        half = self._most // 2
        for sums in (self._sums, self._seconds):
            sums[:half] = sums[0::2] + sums[1::2]
            sums[half:] = 0
        for firsts in (self._times, self._indices, self._maps):
            assert firsts is not None, "there are samples"
            firsts[:half] = firsts[0::2].copy()
        self.step *= 2


def small_map(saliency_map: SaliencyMap, height: int, width: int) -> Bytes:
    """A map in fewer cells and in 8 bits: exact means over each cell, scaled so that the largest is 255."""
    small = _means(_means(saliency_map, height).T, width).T
    largest = float(small.max())
    if largest <= 0:
        return np.zeros((height, width), np.uint8)
    return np.round(small * (255 / largest)).astype(np.uint8)


def _means(values: npt.NDArray[Any], cells: int) -> Values:
    """Means over cells of rows, (cells, columns); rows at a cell's edge count by the part that lies in it.

    Differences of sums up to the edges, and no product of matrices: the threads of BLAS would spin between frames, and
    take the processor from the engine.
    """
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    edges = np.arange(cells + 1) * (len(values) / cells)
    whole = np.minimum(edges.astype(np.intp), len(values) - 1)
    part = (edges - whole)[:, None]
    return np.asarray(np.diff((1 - part) * sums[whole] + part * sums[whole + 1], axis=0) * (cells / len(values)))
