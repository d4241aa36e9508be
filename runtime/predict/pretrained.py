"""What predictors have for engines that people share, under the names that other libraries use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self, cast

from dtfsal.engines import Engine, UsageError
from dtfsal.engines.bundle.hub import parse_repository
from dtfsal.engines.bundle.sharing import push_engine, save_engine


class Pretrained:
    """A predictor whose engine comes from, or goes to, a repository of a hub or a folder of that form."""

    engine: Engine

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, revision: str | None = None, **options: Any) -> Self:
        """A predictor with a shared engine, which is downloaded if it is not in the cache.

        A folder that exists is taken before a repository of that name, unless a revision is given. The network is asked
        only for a repository, and not at all for one at a full commit that was downloaded before. Without a full commit
        the logger `dtfsal` is told which one was found; `predictor.engine.describe()["repository"]` has it, too.

        Args:
            name: "org/name" or "org/name@revision", a folder of `save_pretrained`, an engine's folder, or the name of
                an engine that the package carries.
            revision: a branch, a tag or a commit; None for the newest commit of the main branch.
            options: the predictor's other arguments. `trust` stays False: a downloaded engine runs no code of its own.

        Raises:
            UnavailableError: huggingface_hub is not installed, or neither the network nor the cache has the engine.
            EngineError: the repository is not there, has no such revision or no engine, or its engine is not whole.
            UsageError: a revision of something else than a repository, or an option that cannot work.
        """
        place = os.fspath(name)
        if revision is not None:
            if "@" in place or parse_repository(f"{place}@{revision}") is None:
                raise UsageError(
                    f"{place!r} at the revision {revision!r} is no repository: give ORG/NAME and a revision"
                )
            place = f"{place}@{revision}"
        return cast(Self, cast(Any, cls)(place, **options))

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        licence: str | None = None,
    ) -> Path:
        """Write a new folder as a repository holds it: the engine in `engine/`, and a model card, `README.md`.

        Args:
            folder: a new folder, or an empty one.
            weights: the safetensors file that the engine was made of, to go along as `weights.safetensors`.
            licence: of the weights, by its SPDX name, such as "apache-2.0", for the card.

        Returns:
            The folder, which `from_pretrained` and `-e` take.

        Raises:
            UsageError: something is at `folder`, or the weights are not the engine's.
            OutputError: the folder cannot be written.
        """
        return save_engine(self.engine.bundle, folder, weights=weights, licence=licence)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        weights: str | os.PathLike[str] | None = None,
        licence: str | None = None,
        commit_message: str = "Share an engine of dtfsal",
    ) -> str:
        """Upload what `save_pretrained` writes to a repository, which is made if it is not there.

        An engine that lies there is replaced, and so is its card; the repository's history keeps both.

        Args:
            repository: "org/name".
            private: who sees a new repository; None for what the hub does by default.
            weights: as for `save_pretrained`.
            licence: as for `save_pretrained`.
            commit_message: of the commit.

        Returns:
            "org/name@commit", which `from_pretrained` and `-e` take.

        Raises:
            OutputError: the hub does not let you write there; `hf auth login` logs you in.
            UnavailableError: huggingface_hub is not installed, or the network does not answer.
            UsageError: as for `save_pretrained`, or `repository` is not a name of one.
        """
        return push_engine(
            self.engine.bundle, repository, private=private, weights=weights, licence=licence, message=commit_message
        )
