"""Where dtfsal keeps what it built or downloaded for the user."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache of dtfsal: in `XDG_CACHE_HOME`, else in `~/.cache`; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtfsal"
