"""Libraries that a wheel carries: where they lie, and that they are what the wheel had.

Whoever may write beside them may change dtfsal's Python code too, so their owner is not asked for. Their hash is: a
file that was put there later, or that was damaged, is not the wheel's.
"""

from __future__ import annotations

import base64
import importlib.metadata
import sys
from pathlib import Path

from dtfsal.engines.bundle.manifest import sha256_file
from dtfsal.engines.errors import UnavailableError

# What the wheel's CMakeLists.txt installs to; a checkout has no such folder.
PREFIX = Path(__file__).parents[2] / "native"


def system_name(library: str, version: str = "") -> str:
    """A library's file name on this system.

    Args:
        library: its name on Linux, such as "libdtfsal.so"; engines name it so on every system.
        version: of its interface, such as "0" of "libdtfsal.so.0"; or nothing.
    """
    stem, point = library.removesuffix(".so"), version and f".{version}"
    if sys.platform == "darwin":
        return f"{stem}{point}.dylib"
    return f"{stem}.dll" if sys.platform == "win32" else f"{stem}.so{point}"


def packaged_library(file_name: str, title: str) -> Path | None:
    """The library that the wheel carried, or None where this installation came without it.

    Args:
        file_name: such as "libdtfsal.so.0".
        title: what it is in a sentence, such as "the C library".

    Raises:
        UnavailableError: there is a file of that name, and it is not what the wheel carried.
    """
    library = PREFIX / ("bin" if sys.platform == "win32" else "lib") / file_name
    if not library.is_file():
        return None
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256_file(library))).rstrip(b"=").decode()
    if digest != _recorded_digest(library):
        raise UnavailableError(
            f"{library} is not the file of {title} that was installed with dtfsal: install dtfsal again "
            "(`pip install --force-reinstall --no-deps dtfsal`)"
        )
    return library


def _recorded_digest(file: Path) -> str | None:
    """What the installation's list of files (RECORD) says of one: its SHA-256 in Base64."""
    for distribution in importlib.metadata.distributions(name="dtfsal"):
        for entry in distribution.files or ():
            if entry.name != file.name or entry.hash is None or entry.hash.mode != "sha256":
                continue
            if Path(str(entry.locate())).resolve() == file.resolve():
                return entry.hash.value
    return None
