"""Engines that the package carries, by name."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_ENGINE = "lite"
_FOLDER = Path(__file__).parents[1] / "shipped"


def shipped_engines() -> tuple[str, ...]:
    """Names of the engines in this installation; none where the package was stripped of them."""
    if not _FOLDER.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in _FOLDER.iterdir() if entry.is_dir()))


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of an engine which the package carries."""
    return folder.parent == _FOLDER


def engine_folder(engine: str | os.PathLike[str]) -> Path:
    """The folder of an engine that is given by its folder or by the name of one that the package carries.

    A folder that exists is taken before a name.
    """
    path = Path(engine)
    if not path.exists() and os.fspath(engine) in shipped_engines():
        return _FOLDER / path
    return path
