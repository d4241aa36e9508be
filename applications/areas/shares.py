"""Shares of attention of areas, frame by frame and in all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from dtfsal.applications.areas.coverage import Coverage, coverage, share_of
from dtfsal.applications.areas.model import Area, Outline


@dataclasses.dataclass(frozen=True, kw_only=True)
class AreaSummary:
    """An area over a whole video; shares are in [0, 1] and weighted by the time that frames are shown.

    Attributes:
        name: of the area.
        rank: by `share`; 1 is the largest, and equal ones have the same.
        share: mean over the whole video; 0 while the area is hidden.
        share_while_visible: mean over the frames that it is there in; None if it never is.
        share_of_picture: how much of the picture it covers, mean over the same frames. Attention that is spread evenly
            gives an area this share.
        visible_seconds: how long it is there.
        peak_share: the largest of a frame; None if it is never there.
        peak_seconds: the time of that frame.
        first_above_seconds: the time of the first frame whose share is above the level; None if none is.
    """

    name: str
    rank: int
    share: float
    share_while_visible: float | None
    share_of_picture: float | None
    visible_seconds: float
    peak_share: float | None
    peak_seconds: float | None
    first_above_seconds: float | None


@dataclasses.dataclass
class _Sums:
    weighted: float = 0.0
    picture: float = 0.0
    seconds: float = 0.0
    peak: float | None = None
    peak_seconds: float | None = None
    first_above_seconds: float | None = None


class AreaShares:
    """Measures areas on maps that come one after another; what it holds does not grow.

    Args:
        areas: to measure.
        level: the share that `first_above_seconds` asks for.
    """

    def __init__(self, areas: Sequence[Area], level: float = 0.1) -> None:
        self.areas = tuple(areas)
        self.level = level
        self._covered: dict[str, tuple[tuple[Outline, int, int], Coverage]] = {}
        self._sums = {area.name: _Sums() for area in self.areas}
        self._seconds = 0.0

    def measure(self, saliency_map: npt.NDArray[Any], time_seconds: float) -> list[float | None]:
        """The share of each area on a map, in the areas' order; None for those that are hidden.

        Args:
            saliency_map: (H, W), not negative.
            time_seconds: of its frame.
        """
        outlines = [area.at(time_seconds) for area in self.areas]
        there = [
            self._coverage(area.name, outline, *saliency_map.shape)
            for area, outline in zip(self.areas, outlines, strict=True)
            if outline is not None
        ]
        shares = iter(share_of(saliency_map, there))
        return [None if outline is None else next(shares) for outline in outlines]

    def add(self, shares: Sequence[float | None], time_seconds: float, shown_seconds: float) -> None:
        """Count a frame's shares.

        Args:
            shares: as `measure` gave them.
            time_seconds: of the frame.
            shown_seconds: how long it is shown.
        """
        self._seconds += shown_seconds
        for area, share in zip(self.areas, shares, strict=True):
            if share is None:
                continue
            sums = self._sums[area.name]
            sums.weighted += share * shown_seconds
            outline = area.at(time_seconds)
            assert outline is not None, "an area that has a share is there"
            sums.picture += float(coverage(outline, 1, 1).shares.sum()) * shown_seconds
            sums.seconds += shown_seconds
            if sums.peak is None or share > sums.peak:
                sums.peak, sums.peak_seconds = share, time_seconds
            if sums.first_above_seconds is None and share > self.level:
                sums.first_above_seconds = time_seconds

    def summaries(self) -> list[AreaSummary]:
        """All areas, over the frames so far, in their order."""
        shares = {name: sums.weighted / self._seconds if self._seconds else 0.0 for name, sums in self._sums.items()}
        return [
            AreaSummary(
                name=name,
                rank=1 + sum(other > shares[name] for other in shares.values()),
                share=shares[name],
                share_while_visible=sums.weighted / sums.seconds if sums.seconds else None,
                share_of_picture=sums.picture / sums.seconds if sums.seconds else None,
                visible_seconds=sums.seconds,
                peak_share=sums.peak,
                peak_seconds=sums.peak_seconds,
                first_above_seconds=sums.first_above_seconds,
            )
            for name, sums in self._sums.items()
        ]

    def _coverage(self, name: str, outline: Outline, height: int, width: int) -> Coverage:
        """What an area covers, computed again only when it has moved."""
        known = self._covered.get(name)
        if known is None or known[0] != (outline, height, width):
            known = (outline, height, width), coverage(outline, height, width)
            self._covered[name] = known
        return known[1]
