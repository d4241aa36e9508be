"""Which native code may run: libraries that the wheel carries or that this package built into the user's own cache.

An engine names the libraries that it needs. One that it brings itself is a stranger's program: it runs only if it is
byte for byte the installed one, which then runs in its place, or if the caller trusts the engine.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import sha256_file
from dtfsal.engines.errors import EngineError, EngineMismatchError, UnavailableError

# Beside a library: its hash, and that of the sources that it was built from, as `sha256sum` writes them.
RECORD_SUFFIX = ".built"
_SOURCE_SUFFIXES = frozenset({".c", ".cpp", ".cu", ".cuh", ".h", ".in", ".map", ".txt", ".cmake"})


class KnownLibrary(Protocol):
    """A library of this package that engines ask for: a `NativeProject`."""

    @property
    def library(self) -> str:
        """The name of its file."""

    @property
    def version(self) -> int:
        """Of what it offers to engines; an engine asks for the version that it was built for."""

    def find(self) -> Path:
        """The installed one, or an `UnavailableError`."""


def engine_libraries(bundle: Bundle, known: KnownLibrary | None, *, trust: bool) -> list[Path]:
    """The libraries to load for an engine.

    Args:
        bundle: the engine.
        known: the library that its back end has for it; None for a back end that loads none.
        trust: load whatever native code the engine brings.

    Raises:
        EngineError: the engine brings native code that is not this installation's, and is not trusted.
        EngineMismatchError: it needs a library that this version does not have.
        UnavailableError: the library that it needs is not built here.
    """
    brought, libraries = bundle.native_code, []
    for name in brought:
        path = bundle.file(name) if trust else _equal_to_installed(bundle, name, known)
        if path is None:
            raise EngineError(
                f"{bundle.path} brings native code, {name}, which could do all that you can: build the engine again, "
                "or trust its maker and give --trust-engine (in Python trust=True)"
            )
        libraries.append(path)
    for name, version in bundle.manifest.native_libraries.items():
        if known is None or (name, version) != (known.library, known.version):
            raise EngineMismatchError(
                f"{bundle.path} needs version {version} of {name}, which this dtfsal does not have: upgrade dtfsal, or "
                "build the engine again with this version"
            )
        if name not in brought:
            libraries.append(known.find())
    return libraries


def _equal_to_installed(bundle: Bundle, name: str, known: KnownLibrary | None) -> Path | None:
    """The installed library if the engine's is the same; the engine's own file is not loaded even then."""
    if known is None or name != known.library:
        return None
    try:
        installed = known.find()
    except UnavailableError:
        return None
    return installed if sha256_file(installed) == bundle.manifest.files[name].sha256 else None


def record_build(library: Path, sources: Path, *uses: Path) -> None:
    """Write beside a library that was just built what it is and what it was made from."""
    lines = f"{sha256_file(library)}  {library.name}\n{sources_digest(sources, *uses)}  sources\n"
    library.with_name(library.name + RECORD_SUFFIX).write_text(lines)


def sources_digest(sources: Path, *uses: Path) -> str:
    """The hash of a project's sources, 64 hexadecimal digits: of the list of their hashes and names.

    The files beside this module, which the projects share, count as sources of each.

    `runtime/capi/CMakeLists.txt` computes the same for libraries without `uses`.

    Args:
        sources: the project's folder.
        uses: folders of other projects whose files it compiles.
    """
    files = {file.relative_to(sources).as_posix(): file for file in sources.rglob("*")}
    files |= {f"shared/{file.name}": file for file in Path(__file__).parent.iterdir()}
    for folder in uses:
        files |= {f"{folder.parent.name}/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*")}
    lines = sorted(
        f"{sha256_file(file)}  {name}\n"
        for name, file in files.items()
        if file.is_file() and file.suffix in _SOURCE_SUFFIXES
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def built_here(library: Path, sources: Path, title: str, remedy: str, uses: Sequence[Path] = ()) -> Path:
    """A library in the user's cache, if it is one that this package built of these sources for this user.

    Args:
        library: its path.
        sources: the folder of its sources in this installation.
        title: what it is in a sentence, such as "the TensorRT plugin".
        remedy: what builds it, as the end of a sentence.
        uses: see `sources_digest`.

    Raises:
        UnavailableError: it is not there, was built of other sources, was changed since, or belongs to somebody else.
    """
    if not library.is_file():
        raise UnavailableError(f"{title} is not built ({library} is not there): {remedy}")
    require_own(library)
    record = library.with_name(library.name + RECORD_SUFFIX)
    try:
        require_own(record)
        lines = record.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    if lines != [f"{sha256_file(library)}  {library.name}", f"{sources_digest(sources, *uses)}  sources"]:
        raise UnavailableError(f"{library} is not what this version of dtfsal built: {remedy}")
    return library


def require_own(path: Path) -> None:
    """Refuse a file that somebody else could have written: it and its folders belong to the user or to root.

    A folder that all may write to is fine where only owners may rename what is in it, as in /tmp.

    Raises:
        UnavailableError: another user owns it or a folder on the way to it, or may write there.
    """
    if not hasattr(os, "geteuid"):
        return
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        found = place.stat()
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or shared:
            raise UnavailableError(
                f"{path} could have been written by somebody else, since {place} "
                f"{'may be written to by other users' if shared else 'belongs to another user'}: run "
                f"`chmod go-w {place}`, or set XDG_CACHE_HOME to a folder of your own and build the library again"
            )


def own_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each for the user alone."""
    if path.is_dir():
        return
    own_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def libraries_of(*known: KnownLibrary) -> Mapping[str, int]:
    """What a manifest says of the libraries that its engine needs: their names and versions."""
    return {library.library: library.version for library in known}
