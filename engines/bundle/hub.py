"""Engines and weights of a hub: `org/name`, or `org/name@revision`, downloaded with `huggingface_hub`.

The network is asked only for a name of this form. A repository holds an engine at its top or in its folder `engine`,
and maybe weights beside it. Only the files that the engine's manifest lists are downloaded, each is compared with it,
and they come to lie as plain files in dtfsal's own cache, under the commit: `hub/org/name/COMMIT`. There they are an
engine like any other, with the same checks. The hub's own cache is used too, and serves where the network does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from dtfsal.engines.bundle.manifest import DIGEST_FILE, MANIFEST_FILE, FileRecord, Manifest, sha256_file
from dtfsal.engines.cache import cache_folder
from dtfsal.engines.errors import DtfsalError, EngineError, EngineMismatchError, OutputError, UnavailableError
from dtfsal.engines.partial import partial_folder, replace_folder

ENGINE_FOLDER = "engine"
WEIGHTS_FILE = "weights.safetensors"
DEFAULT_REVISION = "main"
# Of the two files that say what an engine is; the others' sizes stand in the manifest.
_MOST_BYTES = {MANIFEST_FILE: 4 * 2**20, DIGEST_FILE: 256}
_TIMEOUT_SECONDS = 10.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What a hub answers about repositories that are not there, or not for this user: it does not tell which.
_REFUSALS = (401, 403, 404)

_PART = r"[A-Za-z0-9_]+(?:[._-][A-Za-z0-9_]+)*"
_NAME = re.compile(rf"(?P<name>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/+-]{{0,127}}))?")
_LONGEST_NAME = 96
_COMMIT = re.compile(r"[0-9a-f]{40}")
# A path that was mistyped is no reason to ask a hub for it.
_PATH_SUFFIXES = (
    *(".engine", ".safetensors", ".onnx"),
    *(".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
)
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")

_log = logging.getLogger("dtfsal")


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository of a hub.

    Attributes:
        name: "org/name".
        revision: a branch, a tag or a commit; None for the newest commit of the main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit, which stands for the same files for ever."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @property
    def cache(self) -> Path:
        """The folder of dtfsal's cache that holds its engines, one for each commit."""
        return cache_folder() / "hub" / self.name


def parse_repository(text: str) -> Repository | None:
    """The repository that a text names, or None for any other text; a folder on the way makes the text a path."""
    match = _NAME.fullmatch(text)
    if match is None or len(match["name"]) > _LONGEST_NAME or ".." in text or match["name"].endswith(_PATH_SUFFIXES):
        return None
    if match["revision"] is None and Path(text).parent.is_dir():
        return None
    return Repository(match["name"], match["revision"])


def origin(folder: Path) -> Repository | None:
    """Where an engine in dtfsal's cache was downloaded from, pinned to its commit; None for any other folder."""
    try:
        parts = folder.absolute().relative_to(cache_folder().absolute() / "hub").parts
    except ValueError:
        return None
    return Repository("/".join(parts[:2]), parts[2]) if len(parts) == 3 and _COMMIT.fullmatch(parts[2]) else None


def fetch_engine(repository: Repository) -> Path:
    """The folder of a repository's engine, downloaded if it is not in the cache.

    Without a full commit in its revision, the commit that was found is told to the logger `dtfsal`.

    Raises:
        UnavailableError: huggingface_hub is not installed, or neither the network nor the cache has the engine.
        EngineError: the repository is not there, has no such revision or no engine, or its engine is not whole.
        EngineMismatchError: the engine is of a newer format.
        OutputError: the cache cannot be written to.
    """
    if repository.is_pinned and _is_whole(folder := repository.cache / str(repository.revision)):
        return folder
    with _told(repository):
        snapshot = _snapshot(repository)
        prefix = snapshot.engine_prefix()
        read = {name: snapshot.small_file(prefix + name) for name in (MANIFEST_FILE, DIGEST_FILE)}
        manifest = _read_manifest(read[MANIFEST_FILE], f"{snapshot}: {prefix}{MANIFEST_FILE}")
        folder = repository.cache / snapshot.commit
        if not _is_whole(folder):
            for name, record in manifest.files.items():
                read[name] = snapshot.file(prefix + name, record)
            _place(folder, read)
        snapshot.tell()
    return folder


def fetch_weights(repository: Repository) -> Path:
    """A repository's weights, a safetensors file, downloaded if it is not in the cache.

    It is `weights.safetensors`, or the only safetensors file at the repository's top.

    Raises:
        UnavailableError: as `fetch_engine`.
        EngineError: the repository is not there, has no such revision, or no weights as safetensors.
    """
    with _told(repository):
        snapshot = _snapshot(repository)
        path = snapshot.download(snapshot.weights_file(), notes_commit=True)
        snapshot.tell()
    return path


def import_hub(what: str) -> Any:
    """Import huggingface_hub with its telemetry off; what the user set in `HF_HUB_DISABLE_TELEMETRY` stays.

    Args:
        what: the sentence's beginning, such as "sharing an engine".

    Raises:
        UnavailableError: it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UnavailableError(f"{what} needs huggingface_hub: run `pip install 'dtfsal[hub]'`") from error
    return huggingface_hub


@dataclasses.dataclass(frozen=True)
class _Snapshot:
    """The files of a repository at one commit.

    Attributes:
        repository: as the user named it.
        commit: 40 hexadecimal digits.
        sizes: bytes by path in the repository; None where the hub does not say.
        hub: the module huggingface_hub.
        why_offline: why the hub was not asked, or None if it was; then `sizes` has what the cache has.
    """

    repository: Repository
    commit: str
    sizes: dict[str, int | None]
    hub: Any
    why_offline: str | None

    def __str__(self) -> str:
        return f"{self.repository.name}@{self.commit[:12]}"

    def engine_prefix(self) -> str:
        """Where its engine lies: "" or "engine/"."""
        for prefix in ("", f"{ENGINE_FOLDER}/"):
            if prefix + MANIFEST_FILE in self.sizes:
                return prefix
        if any(_is_safetensors(name) for name in self.sizes):
            self._refuse("engine", f"but weights: build one with `dtfsal build --weights {self.repository}`")
        return self._refuse("engine", f"(no {MANIFEST_FILE}): name another, or share one with `push_to_hub`")

    def weights_file(self) -> str:
        """The path of its weights."""
        found = [name for name in self.sizes if _is_safetensors(name)]
        if WEIGHTS_FILE in found:
            return WEIGHTS_FILE
        if len(found) > 1:
            raise EngineError(f"{self} has {len(found)} safetensors files and none is {WEIGHTS_FILE}: download yours")
        return found[0] if found else self._refuse("weights", "as safetensors: name another repository")

    def small_file(self, name: str) -> Path:
        """Download one of the two files that say what the engine is."""
        most, size = _MOST_BYTES[PurePosixPath(name).name], self.sizes.get(name)
        if name not in self.sizes:
            raise EngineError(f"{self} lacks the file {name}: its maker must upload the engine again")
        if size is not None and size > most:
            raise EngineError(f"{self}: {name} has {size} bytes, which is too large for what it should be")
        return self.download(name, notes_commit=name.endswith(MANIFEST_FILE))

    def file(self, name: str, record: FileRecord) -> Path:
        """Download a file that the manifest lists; one in the cache that is not what it says is downloaded again."""
        size = self.sizes.get(name)
        if name not in self.sizes or size not in (None, record.size_bytes):
            what = "lacks the file" if name not in self.sizes else f"has {size} and not {record.size_bytes} bytes in"
            raise EngineError(f"{self} {what} {name}, against its manifest: its maker must upload the engine again")
        for force in (False, True):
            path = self.download(name, force=force)
            if path.stat().st_size == record.size_bytes and sha256_file(path) == record.sha256:
                return path
        raise EngineError(f"{self}: {name} has another SHA-256 than its manifest says: do not use it, tell its maker")

    def download(self, name: str, *, force: bool = False, notes_commit: bool = False) -> Path:
        """The path of a file in the hub's cache; downloaded if it is not there whole, or if forced.

        Args:
            name: of the file.
            force: download it although it is there.
            notes_commit: ask for it by its branch, since only that notes in the cache which commit the branch is at.
        """
        by_branch = notes_commit and self.why_offline is None
        revision = (self.repository.revision or DEFAULT_REVISION) if by_branch else self.commit
        found = self.hub.hf_hub_download(
            self.repository.name, name, revision=revision, force_download=force, library_name="dtfsal"
        )
        path = Path(found)
        if self.commit not in path.parts:
            raise UnavailableError(f"{self.repository} changed while it was read: try again")
        if self.sizes[name] in (None, path.stat().st_size):
            return path
        if force:
            raise EngineError(f"{self}: {name} has another size than the hub says: try again, or tell its maker")
        return self.download(name, force=True)

    def tell(self) -> None:
        """Tell which commit an unpinned name stands for."""
        if not self.repository.is_pinned:
            pinned = f"`{self.repository.name}@{self.commit}` keeps to it"
            source = f" in the cache, since the hub cannot be asked ({self.why_offline})" if self.why_offline else ""
            _log.warning("%s is at commit %s%s; %s", self.repository, self.commit, source, pinned)

    def _refuse(self, wanted: str, otherwise: str) -> NoReturn:
        pickles = [name for name in self.sizes if name.lower().endswith(_PICKLES)]
        if pickles and not any(_is_safetensors(name) for name in self.sizes):
            raise EngineError(
                f"{self} has no {wanted} but pickled weights ({pickles[0]}), which can run code and are never read: "
                "ask their maker for safetensors"
            )
        raise EngineError(f"{self} has no {wanted} {otherwise}")


def _snapshot(repository: Repository) -> _Snapshot:
    hub = import_hub(f"{repository} is no engine and no folder here, and looking for it on a hub")
    from huggingface_hub import errors

    try:
        api = hub.HfApi(library_name="dtfsal")
        info = api.model_info(
            repository.name, revision=repository.revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except errors.RevisionNotFoundError as error:
        raise EngineError(
            f"{repository.name} has no revision {repository.revision!r}: name a branch, a tag or a commit of it"
        ) from error
    except Exception as error:  # the hub's own, its HTTP library's and the system's errors of a network
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _REFUSALS:
            raise EngineError(
                f"there is no engine {repository.name}: it is no folder here and no name of the package's, and the hub "
                "has no repository of that name, or a private one: check the name, or log in with `hf auth login`"
            ) from error
        return _cached_snapshot(repository, hub, error)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise EngineError(f"the hub's answer about {repository} names no commit: check HF_ENDPOINT")
    return _Snapshot(repository, commit, {file.rfilename: file.size for file in info.siblings or ()}, hub, None)


def _cached_snapshot(repository: Repository, hub: Any, why: Exception) -> _Snapshot:
    """What the hub's cache has of a repository."""
    try:
        folder = Path(hub.snapshot_download(repository.name, revision=repository.revision, local_files_only=True))
    except Exception as error:
        raise UnavailableError(
            f"{repository} is not in the cache, and the hub cannot be asked ({_reason(why)}): try again with a network"
        ) from error
    sizes: dict[str, int | None] = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
    }
    return _Snapshot(repository, folder.name, sizes, hub, _reason(why))


@contextlib.contextmanager
def _told(repository: Repository) -> Iterator[None]:
    """Make one sentence of whatever goes wrong while a repository is downloaded."""
    try:
        yield
    except DtfsalError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL):
            raise OutputError(
                f"{repository} cannot be kept in the cache: {error.strerror} ({error.filename})"
            ) from error
        raise UnavailableError(f"the download of {repository} broke off ({_reason(error)}): try again") from error


def _read_manifest(path: Path, source: str) -> Manifest:
    try:
        return Manifest.from_json(path.read_bytes(), source)
    except EngineMismatchError:
        raise
    except EngineError as error:
        raise EngineError(f"{error}; ask its maker to build it again with this dtfsal") from None


def _is_whole(folder: Path) -> bool:
    """Whether the cache has an engine; `_place` puts it there whole or not at all."""
    return (folder / MANIFEST_FILE).is_file()


def _place(folder: Path, files: dict[str, Path]) -> None:
    """Put an engine into the cache, as plain files and whole or not at all: links where the hub's cache allows them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(folder) as partial:
        for name, path in files.items():
            _link_or_copy(Path(os.path.realpath(path)), partial / name)
        replace_folder(partial, folder)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _is_safetensors(name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors")


def _reason(error: Exception) -> str:
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set"
    if (status := getattr(getattr(error, "response", None), "status_code", None)) is not None:
        return f"it answers with HTTP {status}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
