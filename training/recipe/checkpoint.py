"""What a stage needs to go on from its last whole epoch, to exactly the same weights: one file, replaced whole."""

import json
from pathlib import Path

import numpy as np
import safetensors
from safetensors.torch import load_file, save_file

from dtfsal.engines.partial import partial_file
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.weights import WeightsError
from dtfsal.training.recipe.optimisation import Optimiser

KEY = "dtfsal.stage"


class StageCheckpoint:
    """A file between a stage's epochs.

    Args:
        path: the file.
        made_by: what the stage is made by; a file of anything else is not taken up.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        self._path, self._made_by = path, made_by

    def save(self, epoch: int, optimiser: Optimiser[DTFSal], rng: np.random.Generator) -> None:
        """Keep the state after so many epochs.

        Raises:
            WeightsError: it cannot be written.
        """
        header = {"made_by": self._made_by, "epoch": epoch, "random": rng.bit_generator.state}
        tensors = {name: tensor.contiguous() for name, tensor in optimiser.state().items()}
        try:
            with partial_file(self._path) as partial:
                save_file(tensors, partial, metadata={KEY: json.dumps(header)})
        except (OSError, safetensors.SafetensorError) as error:
            raise WeightsError(
                f"cannot write {self._path} ({error}); free some space, then run the same again"
            ) from error

    def restore(self, optimiser: Optimiser[DTFSal], rng: np.random.Generator) -> int:
        """Put the state back where a file of the same making is there; the number of epochs that are done.

        A damaged file counts as none.
        """
        try:
            with safetensors.safe_open(self._path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[KEY])
            if header["made_by"] != self._made_by:
                return 0
            tensors = load_file(self._path)
        except (OSError, KeyError, ValueError, safetensors.SafetensorError):
            return 0
        optimiser.restore(tensors)
        rng.bit_generator.state = header["random"]
        return int(header["epoch"])
