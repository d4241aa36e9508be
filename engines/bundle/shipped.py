"""Engines by name: those that the package carries, those of a hub, and any other by its folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dtfsal.engines.bundle.hub import ENGINE_FOLDER, fetch_engine, parse_repository
from dtfsal.engines.bundle.manifest import MANIFEST_FILE

DEFAULT_ENGINE = "lite"
_FOLDER = Path(__file__).parents[1] / "shipped"

_log = logging.getLogger("dtfsal")


def shipped_engines() -> tuple[str, ...]:
    """Names of the engines in this installation; none where the package was stripped of them."""
    if not _FOLDER.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in _FOLDER.iterdir() if entry.is_dir()))


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of an engine which the package carries."""
    return folder.parent == _FOLDER


def engine_folder(engine: str | os.PathLike[str]) -> Path:
    """The folder of an engine that is given by its folder, by a name of the package, or by a repository of a hub.

    What exists is taken before a name; where a repository of that name has been used before, the logger `dtfsal` is
    told so. A folder that `save_pretrained` wrote stands for the engine in it. See `dtfsal.engines.bundle.hub`.

    Raises:
        DtfsalError: a repository's engine cannot be had; see `fetch_engine`.
    """
    path, name = Path(engine), os.fspath(engine)
    if path.exists():
        if os.sep in name and (repository := parse_repository(f"{name}@main")) and repository.cache.is_dir():
            _log.warning("%s is the folder here, and not the repository of a hub, which is `%s`", name, repository)
        inner = path / ENGINE_FOLDER
        return inner if (inner / MANIFEST_FILE).is_file() and not (path / MANIFEST_FILE).exists() else path
    if name in shipped_engines():
        return _FOLDER / path
    repository = parse_repository(name)
    return path if repository is None else fetch_engine(repository)
