"""An engine on disk: a flat folder of model files, `manifest.json`, and `manifest.sha256`, which guards the manifest.

A bundle is written whole or not at all, and read with suspicion: what the manifest doesn't list, or lists otherwise,
is refused before a back end sees it. `sha256sum -c manifest.sha256` checks the manifest by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtfsal.engines.bundle.hub import origin
from dtfsal.engines.bundle.manifest import (
    DIGEST_FILE,
    MANIFEST_FILE,
    FileRecord,
    Manifest,
    require_file_name,
    sha256_file,
)
from dtfsal.engines.bundle.places import require_outside_engines
from dtfsal.engines.bundle.shipped import engine_folder, is_shipped, shipped_engines
from dtfsal.engines.errors import EngineError, OutputError, UsageError
from dtfsal.engines.partial import partial_folder, replace_folder

_MAX_MANIFEST_BYTES = 4 * 2**20
_CHUNK_BYTES = 2**20
_NATIVE_CODE = re.compile(r".*\.(so|dll|dylib|pyd)(\.[0-9]+)*", re.IGNORECASE)
_OWN_FILES = frozenset({MANIFEST_FILE, DIGEST_FILE})


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found sound.

    Attributes:
        path: the folder.
        manifest: its manifest.
    """

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of one of the bundle's files.

        Raises:
            UsageError: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise UsageError(f"{self.path} has no file {name!r}; it has {', '.join(sorted(self.manifest.files))}")
        return self.path / name

    @property
    def repository(self) -> str | None:
        """Where it was downloaded from, "org/name@commit"; None where it was not."""
        found = origin(self.path)
        return None if found is None else str(found)

    @property
    def native_code(self) -> tuple[str, ...]:
        """Names of its files that are libraries; see `dtfsal.engines.native.trust`."""
        return tuple(sorted(name for name in self.manifest.files if _NATIVE_CODE.fullmatch(name)))

    def describe(self) -> dict[str, Any]:
        """What the bundle is, as plain JSON values; needs no back end, so it works for every target.

        Keys: everything that `manifest.json` has, with the clip's and the sound's durations in seconds added, and
        `path`, `repository`, `size_bytes` (of all files of the engine), the model's `temporal_rule`, and
        `native_code`, the names of the libraries that the engine brings.
        """
        manifest = self.manifest
        fields: dict[str, Any] = {"path": str(self.path), "repository": self.repository}
        fields["size_bytes"] = manifest.size_bytes
        fields |= {"schema_version": manifest.schema_version} | _jsonable(dataclasses.asdict(manifest))
        fields |= {"temporal_rule": manifest.temporal_rule, "native_code": list(self.native_code)}
        fields["clip"]["seconds"] = round(manifest.clip.frames / manifest.clip.frame_rate_hz, 6)
        if manifest.audio is not None:
            audio = manifest.audio
            first_to_last = (audio.slices - 1) * audio.slice_hop_seconds
            fields["audio"]["seconds"] = round(first_to_last + audio.slice_samples / audio.sample_rate_hz, 6)
        return fields


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


def read_bundle(directory: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Read an engine's manifest and check that the folder is what it says.

    Args:
        directory: the bundle's folder, the name of an engine that the package carries, or a repository of a hub,
            "org/name" or "org/name@revision".
        verify: also compare each file's SHA-256 (streamed; about 0.1-0.5 s for 200 MB). Names, sizes and the
            manifest's own digest are checked in any case.

    Raises:
        EngineMismatchError: the manifest has a newer schema than this version reads.
        EngineError: the folder is missing or isn't a bundle, or a file of it is missing, added, truncated or edited.
        UnavailableError: it is of a hub that cannot be asked, and not in the cache.
    """
    path = engine_folder(directory)
    try:
        manifest = _read_manifest(path)
        _check_listing(path, manifest)
        _check_manifest_digest(path)
        for name, record in manifest.files.items():
            size_bytes = (path / name).stat().st_size
            if size_bytes != record.size_bytes:
                raise EngineError(
                    f"{path / name} has {size_bytes} bytes and the manifest says {record.size_bytes}: the file is "
                    "truncated or was replaced; copy or build the engine again"
                )
        if verify:
            for name, record in manifest.files.items():
                if sha256_file(path / name) != record.sha256:
                    raise EngineError(
                        f"{path / name} has another SHA-256 than the manifest says: the file is damaged or was edited; "
                        "copy or build the engine again"
                    )
    except OSError as error:
        raise EngineError(f"{path} cannot be read as an engine: {_reason(error)}") from error
    return Bundle(path, manifest)


def bundle_place(directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The folder that a bundle would be written to, links resolved, for those who work long before they write it.

    Args:
        directory: the bundle's folder, there or not.
        overwrite: replace an engine bundle that exists there.

    Raises:
        UsageError: something is there that may not be replaced.
    """
    final = Path(os.path.realpath(directory))
    if not final.name:
        raise UsageError(f"{directory} cannot be an engine's folder; name a new one")
    _check_replaceable(final, overwrite)
    return final


def write_bundle(
    directory: str | os.PathLike[str],
    manifest_without_files: Manifest,
    files: Mapping[str, str | os.PathLike[str]],
    *,
    overwrite: bool = False,
) -> Manifest:
    """Write an engine bundle, whole or not at all.

    The files are copied and hashed in one pass into a folder beside the final one (see `dtfsal.engines.partial`),
    flushed to the disk and renamed. On any failure, Ctrl-C included, that folder is removed and nothing new stands
    under the final name; an older bundle that was to be replaced stays as it was.

    Args:
        directory: the bundle's folder; its parents are made as needed.
        manifest_without_files: the manifest; its `files` are ignored and recorded again.
        files: names in the bundle and where each file lies now.
        overwrite: replace an engine bundle that exists there. A folder with anything else in it is never replaced.

    Returns:
        The manifest as written, with `files`.

    Raises:
        UsageError: `directory` holds something that may not be replaced.
        EngineError: the manifest is not valid or names a file that `files` lacks.
        OutputError: the disk is full or not writable, or a source file can't be read.
    """
    final = bundle_place(directory, overwrite=overwrite)
    for name in files:
        require_file_name(name, "files")
    if not files:
        raise EngineError(f"{final} would be an engine without files")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(final) as partial:
            records = {name: _copy_and_hash(Path(source), partial / name) for name, source in files.items()}
            manifest = dataclasses.replace(manifest_without_files, files=records)
            text = manifest.to_json().encode()
            _write(partial / MANIFEST_FILE, text)
            _write(partial / DIGEST_FILE, f"{hashlib.sha256(text).hexdigest()}  {MANIFEST_FILE}\n".encode())
            _sync_folder(partial)
            _check_replaceable(final, overwrite)
            replace_folder(partial, final)
        _sync_folder(final.parent)
    except OSError as error:
        raise OutputError(f"the engine {final} cannot be written: {_reason(error)}") from error
    return manifest


def _reason(error: OSError) -> str:
    return f"{error.strerror} ({error.filename})" if error.strerror and error.filename else str(error.strerror or error)


def _read_manifest(path: Path) -> Manifest:
    how = "build one with `dtfsal build`"
    if not path.exists():
        names = " or ".join(shipped_engines())
        carried = f"one that the package carries ({names})" if names else "no name, since this package carries none"
        raise EngineError(f"{path} does not exist; give the folder of an engine, {carried}, or {how}")
    if not path.is_dir():
        raise EngineError(f"{path} is a file and an engine is a folder with a {MANIFEST_FILE}; {how}")
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise EngineError(f"{path} is not an engine, since it has no {MANIFEST_FILE}; {how}")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise EngineError(f"{file} is too large to be an engine's manifest; {how}")
    return Manifest.from_json(file.read_bytes(), str(file))


def _check_listing(path: Path, manifest: Manifest) -> None:
    expected = _OWN_FILES | set(manifest.files)
    present = {entry.name: entry for entry in os.scandir(path)}
    if missing := sorted(expected - set(present)):
        raise EngineError(f"{path} lacks the file {missing[0]}; copy or build the engine again")
    if extra := sorted(set(present) - expected):
        raise EngineError(f"{path} holds {extra[0]!r}, which its manifest does not list; move it out of the folder")
    for name in sorted(expected):
        # An installer may have made a package of links; the package is trusted as this code is.
        if not present[name].is_file(follow_symlinks=is_shipped(path)):
            raise EngineError(
                f"{path / name} is not a regular file, and an engine holds no links: copy or build the engine again"
            )


def _check_manifest_digest(path: Path) -> None:
    digest = sha256_file(path / MANIFEST_FILE)
    with (path / DIGEST_FILE).open("rb") as stream:
        recorded = stream.read(256)
    if recorded.split() != [digest.encode(), MANIFEST_FILE.encode()]:
        raise EngineError(
            f"{path / MANIFEST_FILE} was edited after the engine was built, since {DIGEST_FILE} does not match it; "
            "build the engine again"
        )


def _check_replaceable(final: Path, overwrite: bool) -> None:
    """Refuse to replace anything but an empty folder or, if told to overwrite, a bundle with nothing foreign in it."""
    require_outside_engines(final)
    if not os.path.lexists(final):
        return
    if not final.is_dir():
        raise UsageError(f"{final} is a file; name another folder for the engine")
    names = {entry.name for entry in os.scandir(final)}
    if not names:
        return
    try:
        manifest = _read_manifest(final)
    except EngineError:
        raise UsageError(f"{final} exists and is not an engine; name another folder for the engine") from None
    if foreign := sorted(names - _OWN_FILES - set(manifest.files)):
        raise UsageError(f"{final} holds {foreign[0]!r}, which is not part of an engine; name another folder")
    if not overwrite:
        raise UsageError(f"{final} already holds an engine; name another folder, or ask to overwrite it")


def _copy_and_hash(source: Path, destination: Path) -> FileRecord:
    digest = hashlib.sha256()
    size_bytes = 0
    with source.open("rb", buffering=0) as reader, destination.open("xb", buffering=0) as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[writer.write(view) :]
        os.fsync(writer.fileno())
    return FileRecord(digest.hexdigest(), size_bytes)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    """Flush a folder's entries where the file system can; the files in it are flushed one by one in any case."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
