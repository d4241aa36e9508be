"""A map for every frame from the windows' maps: frames between two windows lie between their maps, in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from dtfsal.runtime.predict.maps import Normalisation, SaliencyMap, normalise_map
from dtfsal.runtime.predict.prediction import SaliencyFrame


class FrameMaps:
    """Puts windows' maps and those between them in the order of the frames.

    Args:
        stride: of the windows; a map is copied where a later interpolation needs it.
        normalisation: of the maps that come out.
    """

    def __init__(self, stride: int, normalisation: Normalisation) -> None:
        self._stride = stride
        self._normalisation = normalisation
        self._waiting: deque[tuple[int, float]] = deque()  # numbers and times of frames without a map yet
        self._before: tuple[float, SaliencyMap] | None = None

    def add_frame(self, index: int, time_seconds: float) -> None:
        """A frame that shall have a map."""
        self._waiting.append((index, time_seconds))

    def take_until(self, index: int) -> list[tuple[int, float]]:
        """The numbers and times of the frames up to one of them that still wait; they do so no longer."""
        taken = []
        while self._waiting and self._waiting[0][0] <= index:
            taken.append(self._waiting.popleft())
        return taken

    def add_window(self, frames: list[tuple[int, float]], now: SaliencyMap) -> Iterator[tuple[SaliencyFrame, bool]]:
        """The maps up to a window's frame, and whether each was computed or lies between two that were.

        Args:
            frames: what `take_until` gave for the window's frame, which is the last of them; the others get maps
                between the last window's and this.
            now: the window's map.
        """
        *earlier, (index, time_seconds) = frames
        for between_index, between_seconds in earlier:
            assert self._before is not None, "the first frame always has a window"
            share = np.float32((between_seconds - self._before[0]) / (time_seconds - self._before[0]))
            between = self._before[1] + share * (now - self._before[1])
            yield SaliencyFrame(between_index, between_seconds, normalise_map(between, self._normalisation)), False
        self._before = time_seconds, now
        # A copy where a later interpolation needs the map, since the caller may write into what it gets.
        given = normalise_map(now.copy() if self._stride > 1 else now, self._normalisation)
        yield SaliencyFrame(index, time_seconds, given), True
