"""Where an output must not go: on a device or a pipe, and into an engine."""

from __future__ import annotations

import os
from pathlib import Path

from dtfsal.engines.bundle.manifest import DIGEST_FILE, MANIFEST_FILE
from dtfsal.engines.errors import OutputError, UsageError

_MOST_LINKS = 40


def require_file_place(path: Path) -> None:
    """Refuse a place where a file must not be put: a folder, a device, a pipe, or inside an engine.

    Raises:
        OutputError: it is a folder.
        UsageError: something else than a file is there, directly or through a link, or it lies in an engine's folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file's name")
    if (path.exists() and not path.is_file()) or _is_of_a_process(path):
        raise UsageError(f"{path} is not a file but a device, a pipe or the like, which is never replaced")
    require_outside_engines(path)


def require_outside_engines(path: Path) -> None:
    """Refuse a place inside an engine's folder, where anything more is damage.

    Raises:
        UsageError: it is.
    """
    for folder in Path(os.path.realpath(path.parent), path.name).parents:
        if (folder / MANIFEST_FILE).is_file() and (folder / DIGEST_FILE).is_file():
            raise UsageError(f"{path} lies in the engine {folder}, which must stay as it is; name another place")


def _is_of_a_process(path: Path) -> bool:
    """Whether a name leads through /proc, as /dev/stdout does: to whatever a process has open."""
    for _ in range(_MOST_LINKS):
        folder = Path(os.path.realpath(path.parent))
        if folder.is_relative_to("/proc"):
            return True
        if not path.is_symlink():
            return False
        path = folder / path.readlink()
    return False
