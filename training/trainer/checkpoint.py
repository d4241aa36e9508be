"""All that a run needs to go on as if it had never stopped: one safetensors file, replaced whole."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dtfsal.engines.errors import MALFORMED, DtfsalError
from dtfsal.engines.partial import partial_file
from dtfsal.training.model.weights import WeightsError
from dtfsal.training.trainer.experiment import Experiment, experiment_from

FILE = "last.safetensors"
KEY = "dtfsal.checkpoint"
VERSION = 1
ADAM_STATES = ("step", "exp_avg", "exp_avg_sq")


@dataclasses.dataclass
class Progress:
    """Where a run is.

    Attributes:
        epoch: the one that it is in, from 0.
        step: steps done in it.
        steps: steps done in all.
        best_loss: the least validation loss so far; None before the first.
        epochs_without_gain: since then.
        losses: of each step.
        validations: of each epoch, as scores by name.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    best_loss: float | None = None
    epochs_without_gain: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    validations: list[dict[str, float]] = dataclasses.field(default_factory=list)


def save_checkpoint(
    folder: Path,
    experiment: Experiment,
    progress: Progress,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None,
    scaler: Mapping[str, Any] | None = None,
) -> None:
    """Write a run's state, in one step that leaves the former one or this.

    Raises:
        WeightsError: it cannot be written.
        OutputError: another run writes it.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for kind in ADAM_STATES:
            if parameter in optimiser.state:
                tensors[f"adam.{kind}/{name}"] = optimiser.state[parameter][kind]
    tensors |= {f"average/{name}": tensor for name, tensor in (average or {}).items()}
    tensors["random"] = torch.get_rng_state()
    header = {"version": VERSION, "experiment": experiment.to_dict(), "progress": dataclasses.asdict(progress)}
    header["scaler"] = dict(scaler or {})
    path = folder / FILE
    try:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with partial_file(path) as partial:
            save_file(contiguous, partial, metadata={KEY: json.dumps(header)})
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(
            f"cannot write the checkpoint {path}: {error}; free some space, then use --resume"
        ) from error


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A run's state as it was read.

    Attributes:
        experiment: what was run.
        progress: where it was.
        tensors: by their names in the file.
        scaler: of FP16, what gradients are scaled by; empty for other precisions.
    """

    experiment: Experiment
    progress: Progress
    tensors: Mapping[str, Tensor]
    scaler: Mapping[str, Any]

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor] | None) -> None:
        """Put the state back.

        Raises:
            WeightsError: it is of another model.
        """
        try:
            model.load_state_dict(self._part("model"))
            for name, parameter in model.named_parameters():
                state = {kind: self.tensors.get(f"adam.{kind}/{name}") for kind in ADAM_STATES}
                if state["step"] is not None:
                    optimiser.state[parameter] = {
                        kind: value if kind == "step" else value.to(parameter.device)
                        for kind, value in state.items()
                        if value is not None
                    }
            if average is not None:
                for name, tensor in self._part("average").items():
                    average[name].copy_(tensor)
        except (RuntimeError, KeyError) as error:
            raise WeightsError(f"the checkpoint is of another model: {str(error).splitlines()[0]}") from error
        torch.set_rng_state(self.tensors["random"])

    def _part(self, name: str) -> dict[str, Tensor]:
        return {key.split("/", 1)[1]: value for key, value in self.tensors.items() if key.startswith(f"{name}/")}


def load_checkpoint(folder: Path) -> Checkpoint:
    """A run's last checkpoint.

    Raises:
        WeightsError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise WeightsError(f"{folder} holds no checkpoint to resume from ({FILE}); leave --resume out")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
        if header["version"] != VERSION:
            raise ValueError(f"its version is {header['version']}, and this one reads {VERSION}")
        experiment, progress = experiment_from(header["experiment"]), Progress(**header["progress"])
        return Checkpoint(experiment, progress, load_file(path), header["scaler"])
    except (OSError, DtfsalError, safetensors.SafetensorError, *MALFORMED) as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint ({error}); start the run again") from error
