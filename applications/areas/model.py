"""Areas of interest: boxes, ellipses and polygons that move between key times.

Positions are fractions of the frame: (0, 0) is its top left corner and (1, 1) its bottom right one. An area may reach
beyond the frame; what lies outside counts for nothing.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import shown

Shape = Literal["box", "ellipse", "polygon"]
Outside = Literal["hidden", "hold"]
Point = tuple[float, float]

SHAPES: tuple[Shape, ...] = ("box", "ellipse", "polygon")
MOST_AREAS = 100
MOST_KEYS = 100_000  # of an area
MOST_POINTS = 1000  # of a polygon
MOST_CHARACTERS = 200  # of a name
FARTHEST = 1000.0  # frames from the frame
LATEST_SECONDS = 1e7


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """Where an area lies at a time.

    Attributes:
        shape: what the points are.
        points: of a polygon its corners; of a box or an ellipse the top left and the bottom right corner around it.
    """

    shape: Shape
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """An area's outline at a time.

    Attributes:
        time_seconds: from the video's first frame.
        points: as `Outline` has them.
        visible: whether the area is there from this time to the next key's.
    """

    time_seconds: float
    points: tuple[Point, ...]
    visible: bool = True

    def __post_init__(self) -> None:
        if not abs(self.time_seconds) <= LATEST_SECONDS:
            raise UsageError(f"a key's time must be seconds up to {LATEST_SECONDS:g}, not {shown(self.time_seconds)}")
        for value in (value for point in self.points for value in point):
            if not abs(value) <= FARTHEST:
                raise UsageError(f"a key at {self.time_seconds:g} s lies {shown(value)} frames away from the frame")


@dataclasses.dataclass(frozen=True)
class Area:
    """An area of interest.

    Attributes:
        name: what it is called; areas of one file have different names.
        shape: of all keys.
        keys: in the order of their times. Between two of them each point moves in a straight line at a steady speed.
        outside: before the first key and after the last one the area is "hidden", or it is there and stands still
            ("hold"). None is "hold" for an area with one key, and "hidden" else.

    Raises:
        UsageError: an attribute has a value that can't work.
    """

    name: str
    shape: Shape
    keys: tuple[Key, ...]
    outside: Outside | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MOST_CHARACTERS or not self.name.isprintable():
            raise UsageError(f"an area's name must be 1 to {MOST_CHARACTERS} printable characters, not {self.name!r}")
        if self.shape not in SHAPES:
            raise UsageError(f"the area {self.name!r} must be one of {', '.join(SHAPES)}, not {shown(self.shape)}")
        if not 1 <= len(self.keys) <= MOST_KEYS:
            raise UsageError(f"the area {self.name!r} has {len(self.keys)} keys; 1 to {MOST_KEYS} can be used")
        times = [key.time_seconds for key in self.keys]
        if any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise UsageError(f"the times of the keys of the area {self.name!r} must increase")
        if self.outside is None:
            object.__setattr__(self, "outside", "hold" if len(self.keys) == 1 else "hidden")
        for key in self.keys:
            self._check_points(key)

    def _check_points(self, key: Key) -> None:
        where = f"the area {self.name!r} at {key.time_seconds:g} s"
        if self.shape == "polygon":
            if not 3 <= len(key.points) <= MOST_POINTS:
                raise UsageError(f"{where} has {len(key.points)} points; a polygon has 3 to {MOST_POINTS}")
            if len(key.points) != len(self.keys[0].points):
                raise UsageError(
                    f"{where} has {len(key.points)} points and {len(self.keys[0].points)} at its first key; give each "
                    "key the same number, so that each point has a way to go"
                )
        else:
            (left, top), (right, bottom) = key.points
            if not (left < right and top < bottom):
                raise UsageError(f"{where} has no size; give left < right and top < bottom")

    def at(self, time_seconds: float) -> Outline | None:
        """Where the area lies at a time; None while it is hidden."""
        index = bisect.bisect_right(self.keys, time_seconds, key=lambda key: key.time_seconds) - 1
        if index < 0:
            first = self.keys[0]
            points = first.points if first.visible and self.outside == "hold" else None
        elif index == len(self.keys) - 1:
            last = self.keys[-1]
            there = last.visible and (self.outside == "hold" or last.time_seconds == time_seconds)
            points = last.points if there else None
        else:
            points = _between(self.keys[index], self.keys[index + 1], time_seconds)
        return None if points is None else Outline(self.shape, points)

    @property
    def span_seconds(self) -> tuple[float, float]:
        """The first and the last time at which it may be there; infinite where it holds."""
        if self.outside == "hold":
            return -math.inf, math.inf
        return self.keys[0].time_seconds, self.keys[-1].time_seconds


def _between(key: Key, following: Key, time_seconds: float) -> tuple[Point, ...] | None:
    if not key.visible:
        return None
    if key.points == following.points:
        return key.points
    share = (time_seconds - key.time_seconds) / (following.time_seconds - key.time_seconds)
    return tuple(
        (x + share * (to_x - x), y + share * (to_y - y))
        for (x, y), (to_x, to_y) in zip(key.points, following.points, strict=True)
    )


def check_areas(areas: Sequence[Area], source: str) -> tuple[Area, ...]:
    """Areas that can be used together.

    Args:
        areas: of one file.
        source: what the file is called in an error.

    Raises:
        UsageError: there are none or too many, two have one name, or one never touches the frame.
    """
    if not 1 <= len(areas) <= MOST_AREAS:
        raise UsageError(f"{source} has {len(areas)} areas; 1 to {MOST_AREAS} can be used")
    seen: set[str] = set()
    for area in areas:
        if area.name in seen:
            raise UsageError(f"{source} has two areas called {area.name!r}; give each its own name")
        seen.add(area.name)
        if not any(_touches_frame(key.points) for key in area.keys):
            raise UsageError(f"{source}: the area {area.name!r} lies outside the frame at each of its keys")
    return tuple(areas)


def check_times(areas: Sequence[Area], duration_seconds: float | None) -> None:
    """Refuse areas that come only after a video's end.

    Raises:
        UsageError: one does.
    """
    for area in areas:
        begins, ends = area.span_seconds
        if ends < 0 or (duration_seconds is not None and begins > duration_seconds):
            end = "" if duration_seconds is None else f" and ends at {duration_seconds:.2f} s"
            raise UsageError(
                f"the area {area.name!r} is there from {begins:.2f} to {ends:.2f} s, and the video begins at 0{end}; "
                "set its keys' times from the video's first frame"
            )


def _touches_frame(points: Sequence[Point]) -> bool:
    columns, rows = [x for x, _ in points], [y for _, y in points]
    return min(columns) < 1 and max(columns) > 0 and min(rows) < 1 and max(rows) > 0
