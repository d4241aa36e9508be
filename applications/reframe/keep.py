"""Boxes that the crop must hold: a list in JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.applications.reframe.path import Array
from dtfsal.engines.errors import MALFORMED, UsageError

_MOST_BYTES = 10 * 2**20


@dataclasses.dataclass(frozen=True)
class KeepBox:
    """A part of the picture that must stay in view for a while.

    Attributes:
        box: left, top, right and bottom, in pixels of the displayed frame; edges, not pixel centres.
        start_seconds: from when on; 0 is the first frame.
        end_seconds: until when.
    """

    box: tuple[float, float, float, float]
    start_seconds: float = 0.0
    end_seconds: float = math.inf

    def check(self, width: int, height: int, duration_seconds: float | None) -> None:
        """Check that the box lies in a video.

        Raises:
            UsageError: it reaches beyond the frame, or begins after the end.
        """
        left, top, right, bottom = self.box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise UsageError(
                f"the box to keep {_shown(self.box)} does not lie in the frame of {width}x{height} pixels; a box is "
                "left, top, right, bottom"
            )
        if duration_seconds is not None and self.start_seconds > duration_seconds:
            raise UsageError(
                f"the box to keep {_shown(self.box)} begins at {self.start_seconds:g} s, and the video ends at "
                f"{duration_seconds:g} s"
            )


def read_keep_boxes(path: str | os.PathLike[str]) -> tuple[KeepBox, ...]:
    """Boxes of a JSON file: a list of `{"box": [left, top, right, bottom], "start": 1.5, "end": 4}`.

    Without `start` a box holds from the first frame on, without `end` to the last.

    Raises:
        UsageError: the file is missing, too large, or holds something else.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is larger than {_MOST_BYTES // 2**20} MiB: it cannot be a list of boxes")
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error
    except MALFORMED as error:
        raise UsageError(f"{path} is not JSON ({error})") from error
    try:
        if not isinstance(entries, list):
            raise TypeError("it is not a list")
        return tuple(_box(number, entry) for number, entry in enumerate(entries, 1))
    except MALFORMED as error:
        raise UsageError(
            f"{path} is not a list of boxes to keep ({error}); an entry is "
            '{"box": [left, top, right, bottom], "start": seconds, "end": seconds}'
        ) from error


def kept_ranges(boxes: Sequence[KeepBox], times: Array) -> Array:
    """The part of the picture that must be seen at each time: (n, 4) left, top, right, bottom; NaN where none must."""
    union = np.full((len(times), 4), np.nan)
    for keep in boxes:
        now = (times >= keep.start_seconds) & (times <= keep.end_seconds)
        for edge, pick in enumerate((np.fmin, np.fmin, np.fmax, np.fmax)):
            union[now, edge] = pick(union[now, edge], keep.box[edge])
    return union


def _box(number: int, entry: Any) -> KeepBox:
    unknown = set(entry) - {"box", "start", "end"}
    if unknown:
        raise ValueError(f"entry {number} has {sorted(unknown)[0]!r}")
    values = [float(value) for value in entry["box"]]
    start, end = float(entry.get("start", 0.0)), float(entry.get("end", math.inf))
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise ValueError(f"the box of entry {number} is not four numbers")
    if not start <= end:
        raise ValueError(f"entry {number} ends before it starts")
    return KeepBox((values[0], values[1], values[2], values[3]), start, end)


def _shown(box: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
