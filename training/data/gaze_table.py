"""Where observers looked in a video, from a table in dtfsal's layout, brought to its frames.

    time,x,y,observer
    0.000,311.5,170.2,anna
    0.004,312.0,170.1,anna

A line is a gaze sample, or with a fifth column `duration` a fixation. Times are seconds from the first frame, positions
pixels of the video as displayed, whose centres are at integers. Lines without a position are blinks.
"""

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtfsal.training.data.stills import FARTHEST, DataError, Points
from dtfsal.training.data.video_item import Times

COLUMNS = ("time", "x", "y", "observer")
# Tables are often rounded to milliseconds: a sample so little before its frame is of the frame.
TIME_TOLERANCE_SECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class GazeTable:
    """The lines of a table that have a position.

    Attributes:
        times_seconds: (n,).
        durations_seconds: (n,); 0 for samples.
        points: (n, 2) x and y.
        observers: how many there are.
        blinks: lines without a position.
    """

    times_seconds: Times
    durations_seconds: Times
    points: Points
    observers: int
    blinks: int


@dataclasses.dataclass(frozen=True)
class FrameGaze:
    """The positions of each frame.

    Attributes:
        offsets: (frames + 1,): those of frame i are points[offsets[i] : offsets[i + 1]].
        points: (m, 2) x and y, by frame.
        outside: lines of the table that belong to no frame.
    """

    offsets: npt.NDArray[np.int64]
    points: Points
    outside: int = 0

    def at(self, index: int) -> Points:
        """(n, 2), those of a frame."""
        return self.points[self.offsets[index] : self.offsets[index + 1]]


def read_gaze(path: Path) -> GazeTable:
    """Read a table.

    Raises:
        DataError: it is missing, or a line of it is not what it should be.
    """
    times: list[float] = []
    durations: list[float] = []
    points: list[tuple[float, float]] = []
    observers: set[str] = set()
    blinks = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = names
            # `dtfsal synth` writes the unit into the column's name.
            time_name = "time_seconds" if "time_seconds" in names else "time"
            missing = [name for name in (time_name, *COLUMNS[1:]) if name not in names]
            if missing:
                raise DataError(f"{path} must have the columns {', '.join(COLUMNS)}, and lacks {', '.join(missing)}")
            for row in rows:
                where = f"{path}:{rows.line_num}"
                observer = (row["observer"] or "").strip()
                if not observer:
                    raise DataError(f"{where}: the observer is missing")
                observers.add(observer)
                time = _number(row[time_name], where, "time")
                duration = _number(row.get("duration") or "0", where, "duration")
                if duration < 0:
                    raise DataError(f"{where}: the duration must not be negative, not {duration}")
                if not (row["x"] or "").strip() and not (row["y"] or "").strip():
                    blinks += 1
                    continue
                times.append(time)
                durations.append(duration)
                points.append((_number(row["x"], where, "x"), _number(row["y"], where, "y")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); make it again") from error
    return GazeTable(
        np.array(times, np.float64),
        np.array(durations, np.float64),
        np.array(points, np.float32).reshape(-1, 2),
        len(observers),
        blinks,
    )


def gaze_of_frames(table: GazeTable, frame_times: Times, last_interval_seconds: float) -> FrameGaze:
    """Give each frame the samples while it is shown, and each fixation that has a part in that time.

    Frame i is shown from its time to the next one's, up to a tolerance of a millisecond for rounded times.

    Args:
        table: what was looked at.
        frame_times: (n,) seconds, increasing from 0.
        last_interval_seconds: how long the last frame is shown.
    """
    starts = np.append(frame_times, frame_times[-1] + last_interval_seconds) - TIME_TOLERANCE_SECONDS
    count = len(frame_times)
    first = np.searchsorted(starts, table.times_seconds, side="right") - 1
    # A fixation ends where the next frame begins, or not until after it.
    last = np.searchsorted(starts, table.times_seconds + table.durations_seconds - 2 * TIME_TOLERANCE_SECONDS) - 1
    last = np.where(table.durations_seconds > 0, np.maximum(first, last), first)
    shown = (first < count) & (last >= 0)
    first, last = np.maximum(first[shown], 0), np.minimum(last[shown], count - 1)
    repeats = last - first + 1
    rows = np.repeat(np.arange(len(first)), repeats)
    frames = first[rows] + np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    order = np.argsort(frames, kind="stable")
    offsets = np.searchsorted(frames[order], np.arange(count + 1))
    points = table.points[shown][rows[order]]
    return FrameGaze(offsets.astype(np.int64), points, int((~shown).sum()))


def _number(text: str | None, where: str, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= FARTHEST:
        raise DataError(f"{where}: {name} must be a number, not {text!r}")
    return value
