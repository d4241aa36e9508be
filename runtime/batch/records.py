"""What is finished: a record for each video, written last, and the settings of the run.

`OUT/.dtfsal-run/` holds `settings.json` and a record for each finished video. A record tells the video's content, the
settings, and the size and content of every output. Nothing depends on a file's date, so clocks of machines may differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.runtime.batch.settings import Settings
from dtfsal.runtime.batch.sources import RUN_FOLDER
from dtfsal.runtime.media.writer import atomic_output

_SCHEMA = 1
_BLOCK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class WrittenFile:
    """A finished output: its path below the output folder, its size, and BLAKE2b of its bytes ("" for a folder)."""

    path: str
    size_bytes: int
    blake2b: str


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished video.

    Attributes:
        place: where its results lie, below the output folder.
        content: BLAKE2b of the video's bytes.
        size_bytes: of the video.
        settings: what the results depend on; see `Settings.identity`.
        outputs: the results.
        summary: numbers of the run: frames, seconds, and so on.
    """

    place: str
    content: str
    size_bytes: int
    settings: dict[str, Any]
    outputs: tuple[WrittenFile, ...]
    summary: dict[str, Any]

    def is_whole(self, folder: Path) -> bool:
        """Whether all outputs are there with their sizes."""
        return all(_size(folder / output.path) == output.size_bytes for output in self.outputs)


def content_hash(path: Path) -> str:
    """BLAKE2b of a file's bytes, 32 bytes of it, in hexadecimal digits; the file is read in blocks."""
    found = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def written(folder: Path, paths: Iterable[Path]) -> tuple[WrittenFile, ...]:
    """Finished outputs below a folder, read once more for their content."""
    return tuple(
        WrittenFile(path.relative_to(folder).as_posix(), _size(path) or 0, "" if path.is_dir() else content_hash(path))
        for path in paths
    )


def save_record(folder: Path, record: Record) -> None:
    """Write a record below an output folder, in one step: before it the video is not finished, after it it is."""
    _save(_record_path(folder, record.place), dataclasses.asdict(record))


def read_records(folder: Path) -> Iterator[Record]:
    """The records below an output folder; what is not one, as after a full disk, is left out: its video is redone."""
    for path in sorted((folder / RUN_FOLDER).glob("*.done.json")):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields.pop("schema") != _SCHEMA:
                continue
            outputs = tuple(WrittenFile(**output) for output in fields.pop("outputs"))
            record = Record(outputs=outputs, **fields)
            if all(isinstance(text, str) for text in (record.place, record.content, *(o.path for o in outputs))):
                yield record
        except (OSError, *MALFORMED):
            continue


def begin(folder: Path, settings: Settings, *, force: bool) -> None:
    """Hold a run to the settings that its output folder was begun with; the first run writes them there.

    Args:
        folder: the output folder.
        settings: of this run.
        force: whether other settings take the place of those that are there; finished videos are then done again.

    Raises:
        UsageError: the folder was begun with others.
        OutputError: it cannot be written.
    """
    path, wanted = folder / RUN_FOLDER / "settings.json", settings.identity()
    if path.exists() and not force:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))["settings"]
            told = [_told(key, before.get(key), wanted.get(key)) for key in sorted({*before, *wanted})]
        except (OSError, *MALFORMED) as error:
            raise UsageError(f"{path} cannot be read as a run's settings; name another output folder") from error
        if differences := [one for one in told if one]:
            raise UsageError(
                f"{folder} was begun with other settings ({'; '.join(differences)}): give the same ones, name another "
                "output folder, or give --force to do all its videos again"
            )
        return
    _save(path, {"settings": wanted})


def _told(key: str, before: Any, now: Any) -> str:
    if before == now:
        return ""
    if key == "engine_sha256":
        return f"the engine was {str(before)[:12]} and is {str(now)[:12]}"
    return f"{key} was {_plain(before)} and is {_plain(now)}"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "not set" if value is None else str(value)


def _record_path(folder: Path, place: str) -> Path:
    name = hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()
    return folder / RUN_FOLDER / f"{name}.done.json"


def _save(path: Path, fields: dict[str, Any]) -> None:
    with atomic_output(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump({"schema": _SCHEMA} | fields, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _size(path: Path) -> int | None:
    """Bytes of a file, or of all files of a folder; None where nothing is."""
    try:
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.iterdir())
        return path.stat().st_size
    except OSError:
        return None


def usable(folder: Path, settings: Settings) -> list[Record]:
    """Records below an output folder that are of these settings, and whose outputs are there."""
    identity = json.loads(json.dumps(settings.identity()))
    return [record for record in read_records(folder) if record.settings == identity and record.is_whole(folder)]


def matched(records: Iterable[Record], contents: Mapping[str, tuple[str, int]]) -> dict[str, Record]:
    """The records that videos have already, by the videos' places.

    A video's own place comes first; a video that moved or was renamed gets what no other video of the run claims.

    Args:
        records: that may be used.
        contents: content hash and size of videos, by their places.
    """
    free: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        free.setdefault((record.content, record.size_bytes), []).append(record)
    found: dict[str, Record] = {}
    for own_place in (True, False):
        for place, content in contents.items():
            fitting = [r for r in free.get(content, ()) if not own_place or r.place == place]
            if place not in found and fitting:
                found[place] = fitting[0]
                free[content].remove(fitting[0])
    return found
