"""What can be wrong with a dataset on a disk, and the report of a check."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dtfsal.training.data.layouts import Split

# The kinds of faults, and what each means; `dtfsal check --allow KIND` takes these names.
KINDS = {
    "missing-list": "a list of a split's videos is not there",
    "bad-list": "a line of a list is not what it should be, or names a video twice, or one of another split",
    "missing-video": "a video is not there, or has no frame",
    "frame-gap": "the numbers of a video's frames skip some",
    "duplicate": "two files are the same frame or map",
    "list-longer": "a list gives a video more frames than are there",
    "list-shorter": "a list gives a video fewer frames than are there",
    "no-map": "a frame has no ground-truth map",
    "extra-map": "a map belongs to no frame",
    "empty-map": "nobody looks at a frame, by its map",
    "no-fixations": "a frame has no fixation map",
    "extra-fixations": "a fixation map belongs to no frame",
    "unreadable": "a file cannot be read",
    "size": "a picture has another size than its neighbours, or a map another shape than its frame",
    "no-sound": "the sound is not there",
    "short-sound": "the sound ends before the video does",
    "silent-sound": "the sound is digital silence from end to end",
    "stale": "a file is not the one that was prepared",
}


NAMED_PROBLEMS = 5  # in an error's sentence


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: one of `KINDS`.
        video: the video's name; empty for what belongs to none.
        path: the file or folder.
        message: what is wrong with it.
    """

    kind: str
    video: str
    path: Path
    message: str

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What a check found in a split.

    Attributes:
        split: which.
        fold: of a dataset with folds.
        videos: the names of those that are there.
        frames: in all of them.
        files_read: how many files were opened and decoded.
        faults: all, in the order of the videos.
    """

    split: Split
    fold: int | None
    videos: tuple[str, ...]
    frames: int
    files_read: int
    faults: tuple[Fault, ...]


# Called before a split is checked with the number of its videos, and then after each of them.
Begin = Callable[[int], Callable[[], None]]


def no_progress(_videos: int) -> Callable[[], None]:
    """Tell nobody."""
    return lambda: None


def ranges(numbers: Iterable[int]) -> str:
    """Numbers for people: 1-3, 7, 9-12."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def frames_text(numbers: Iterable[int]) -> str:
    """Frame numbers for people: "frame 7", or "3 frames (1-3)"."""
    listed = list(numbers)
    return f"frame {listed[0]}" if len(listed) == 1 else f"{len(listed)} frames ({ranges(listed)})"


def problems_text(problems: Sequence[str]) -> str:
    """The first few problems, for an error's sentence, and how many more there are."""
    more = f"; and {len(problems) - NAMED_PROBLEMS} more" if len(problems) > NAMED_PROBLEMS else ""
    return "; ".join(problems[:NAMED_PROBLEMS]) + more
