"""The videos of a run: files, folders and lists, each with the place that its results have below the output folder.

A folder's tree is mirrored. So is a list's, below the deepest folder that holds all its videos. A video that is given
by itself lies at the top. A result keeps its video's whole name, `clip.mp4.npz`, so `clip.mp4` and `clip.mov` never
meet, and the name does not depend on which other videos a run has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media.container import check_readable

# What is taken of a folder. A file that is named, itself or in a list, is taken whatever it is called.
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"}
    | {".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
RUN_FOLDER = ".dtfsal-run"  # in an output folder: what a run knows of its videos
LIST_SUFFIX = ".txt"
STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Source:
    """A video of a run.

    Attributes:
        path: the file.
        place: where its results lie, below the output folder: a relative path with the video's whole name.
    """

    path: Path
    place: PurePosixPath


def find_sources(names: Iterable[str]) -> list[Source]:
    """The videos that arguments name, in the order of their places.

    A file that is named and not there is a source like any other: it fails by itself, and the others go on.

    Args:
        names: files, folders, lists (`.txt`, a path in each line; blank lines and those that begin with # are skipped;
            relative paths are taken from the working directory) and `-`, a list on standard input.

    Raises:
        UsageError: a list cannot be read, there is no video, or two results would have one name.
        MediaError: a list that is named is not there.
    """
    found: dict[PurePosixPath, Source] = {}
    for source in _all(names):
        other = found.setdefault(source.place, source)
        if os.path.realpath(other.path) != os.path.realpath(source.path):
            raise UsageError(
                f"{other.path} and {source.path} would both have their results at {source.place}: give their common "
                "folder, whose tree is mirrored, or predict them into two output folders"
            )
    if not found:
        raise UsageError("there is no video among what is given; a folder is searched for the usual suffixes of videos")
    return sorted(found.values(), key=lambda source: source.place)


def take_shard(sources: Iterable[Source], shard: tuple[int, int]) -> list[Source]:
    """The part of a run that one of several machines does.

    A video's part follows from its place alone: machines need not see the same list at the same moment.

    Args:
        sources: all videos.
        shard: which part, from 1, and of how many.
    """
    number, of = shard
    return [source for source in sources if _digest(source.place) % of == number - 1]


def parse_shard(text: str) -> tuple[int, int]:
    """The numbers of a shard's name: "2/8" gives (2, 8).

    Raises:
        UsageError: it is not such a fraction.
    """
    first, slash, second = text.partition("/")
    if slash and all(part.isascii() and part.isdigit() and len(part) < 8 for part in (first, second)):
        number, of = int(first), int(second)
        if 1 <= number <= of:
            return number, of
    raise UsageError(f"a shard is I/N with I from 1 to N, such as 2/8, not {text[:60]!r}")


def _all(names: Iterable[str]) -> Iterator[Source]:
    for name in names:
        if name == STANDARD_INPUT:
            yield from _listed(sys.stdin.buffer.read() if sys.stdin is not None else b"", "standard input")
            continue
        path = Path(name)
        if path.is_dir():
            yield from _within(path)
        elif _is_list(name):
            check_readable(path)
            yield from _listed(_read(path), name)
        else:
            yield Source(path, PurePosixPath(path.name))


def _is_list(name: str) -> bool:
    return name.lower().endswith(LIST_SUFFIX)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the list {path} cannot be read: {error.strerror or error}") from error


def _listed(content: bytes, name: str) -> Iterator[Source]:
    lines = [os.fsdecode(line).strip() for line in content.removeprefix(b"\xef\xbb\xbf").splitlines()]
    paths = [Path(line) for line in lines if line and not line.startswith("#")]
    if any("\0" in str(path) for path in paths):
        raise UsageError(f"{name} is not a list of videos: it holds binary data; a list has one path in each line")
    if not paths:
        return
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120 - links stay
    common = os.path.commonpath(folders)
    for path, folder in zip(paths, folders, strict=True):
        yield Source(path, PurePosixPath(os.path.relpath(os.path.join(folder, path.name), common)))  # noqa: PTH118


def _within(folder: Path) -> Iterator[Source]:
    """Videos below a folder, without hidden files and the output folders of runs; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and not Path(root, name, RUN_FOLDER).exists()]
        for name in files:
            path = Path(root, name)
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield Source(path, PurePosixPath(path.relative_to(folder).as_posix()))


def _digest(place: PurePosixPath) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(str(place)), digest_size=8).digest(), "big")
