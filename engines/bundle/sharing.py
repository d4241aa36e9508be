"""An engine handed on: as a folder with a model card, and as a repository of a hub."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from dtfsal.engines.bundle.folder import Bundle, write_bundle
from dtfsal.engines.bundle.hub import ENGINE_FOLDER, WEIGHTS_FILE, import_hub, parse_repository
from dtfsal.engines.bundle.manifest import sha256_file
from dtfsal.engines.bundle.model_card import model_card
from dtfsal.engines.bundle.places import require_outside_engines
from dtfsal.engines.errors import EngineError, OutputError, UnavailableError, UsageError
from dtfsal.engines.partial import partial_folder, replace_folder

CARD_FILE = "README.md"


def save_engine(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    *,
    name: str = "org/name",
    weights: str | os.PathLike[str] | None = None,
    licence: str | None = None,
) -> Path:
    """Write a new folder as a repository holds it: `engine/`, `README.md`, and maybe `weights.safetensors`.

    Args:
        bundle: the engine.
        folder: a new folder, or an empty one.
        name: the repository's, for the card.
        weights: the safetensors file that the engine was made of, to go along.
        licence: of the weights, by its SPDX name, for the card.

    Returns:
        The folder.

    Raises:
        UsageError: something is at `folder`, or the weights are not the engine's.
        EngineError: the engine was changed since it was opened.
        OutputError: the folder cannot be written.
    """
    final = Path(os.path.realpath(folder))
    require_outside_engines(final)
    if os.path.lexists(final) and not (final.is_dir() and not any(final.iterdir())):
        raise UsageError(f"{folder} exists already; name a new folder")
    if weights is not None:
        _check_weights(bundle, Path(weights))
    card = model_card(bundle, name=name, licence=licence, has_weights=weights is not None)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(final) as partial:
            files = {file: bundle.file(file) for file in bundle.manifest.files}
            if write_bundle(partial / ENGINE_FOLDER, bundle.manifest, files) != bundle.manifest:
                raise EngineError(f"{bundle.path} was changed since it was opened: copy or build the engine again")
            if weights is not None:
                shutil.copyfile(weights, partial / WEIGHTS_FILE)
            (partial / CARD_FILE).write_text(card, encoding="utf-8")
            if final.is_dir():
                final.rmdir()
            replace_folder(partial, final)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return final


def push_engine(
    bundle: Bundle,
    repository: str,
    *,
    private: bool | None = None,
    weights: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    message: str = "Share an engine of dtfsal",
) -> str:
    """Upload an engine to a repository of a hub, which is made if it is not there; older files of it step aside.

    The network is asked with the login of `hf auth login` or `HF_TOKEN`.

    Args:
        bundle: the engine.
        repository: "org/name".
        private: who sees a new repository; None for what the hub does by default.
        weights: as for `save_engine`.
        licence: as for `save_engine`.
        message: of the commit.

    Returns:
        "org/name@commit", which opens what was uploaded.

    Raises:
        UsageError: as for `save_engine`, or `repository` is not a name of one.
        OutputError: the hub does not let you write there.
        UnavailableError: huggingface_hub is not installed, or the network does not answer.
    """
    parsed = parse_repository(f"{repository}@main")
    if parsed is None or "@" in repository:
        raise UsageError(f"a repository's name is ORG/NAME, not {repository!r}")
    hub = import_hub(f"sharing an engine as {repository}")
    from huggingface_hub.errors import HfHubHTTPError

    with tempfile.TemporaryDirectory() as folder:
        saved = save_engine(bundle, Path(folder) / "saved", name=repository, weights=weights, licence=licence)
        try:
            api = hub.HfApi(library_name="dtfsal")
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=saved,
                commit_message=message,
                delete_patterns=[f"{ENGINE_FOLDER}/*", *([WEIGHTS_FILE] if weights is None else [])],
            )
        except HfHubHTTPError as error:
            status = error.response.status_code
            raise OutputError(
                f"the hub refuses to take {repository} (HTTP {status}): log in with `hf auth login`, and check that "
                "you may write there"
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise UnavailableError(f"{repository} cannot be uploaded ({reason}): try again with a network") from error
    return f"{repository}@{done.oid}"


def _check_weights(bundle: Bundle, weights: Path) -> None:
    if not weights.is_file():
        raise UsageError(f"there is no weights file {weights}")
    if weights.suffix != ".safetensors":
        raise UsageError(f"{weights} is not named .safetensors, and no other weights are shared")
    if sha256_file(weights) != bundle.manifest.weights["sha256"]:
        raise UsageError(f"{bundle.path} was not made of {weights}: give the weights that its manifest names, or none")
