"""A model before its first step: published encoders, weights of a stage before, and what of it is trained."""

import functools
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.utils.checkpoint import checkpoint

from dtfsal.engines.errors import UsageError
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.weights import (
    WeightsError,
    load_audioset_weights,
    load_imagenet_weights,
    load_kinetics_weights,
    load_weights,
)
from dtfsal.training.trainer.experiment import Normalisation, Start, Trained

# What hears, and what brings both together: Table 11's "audio fusion".
FUSION_PARTS = ("audio.", "fusion.", "synchrony.")


def start_model(model: DTFSal, start: Start) -> None:
    """Give a model its first weights; what nothing is given for stays as it was drawn.

    Raises:
        WeightsError: a file is missing, damaged, or of another model.
    """
    if start.encoder is not None:
        load = load_imagenet_weights if model.config.encoder.kind == "efficientnet-lite0" else load_kinetics_weights
        load(model, Path(start.encoder))
    if start.sound_encoder is not None:
        load_audioset_weights(model, Path(start.sound_encoder))
    if start.weights is not None:
        take_over(model, Path(start.weights))


def take_over(model: DTFSal, path: Path) -> None:
    """Take over the tensors that both models have; a visual model gives all but the parts that hear.

    Raises:
        WeightsError: it is not a dtfsal model, or its visual part is another.
    """
    given = load_weights(path).state_dict()
    own = model.state_dict()
    missing = [name for name in own if name not in given and not name.startswith(FUSION_PARTS)]
    foreign = [name for name in given if name not in own or given[name].shape != own[name].shape]
    if missing or foreign:
        name = (missing or foreign)[0]
        raise WeightsError(
            f"{path} is of another model than {model.config.name}: they differ in {name}; choose its preset, or other "
            "weights"
        )
    model.load_state_dict(own | given)


def trained_parameters(model: DTFSal, trained: Trained) -> Sequence[nn.Parameter]:
    """The parameters that are trained; the others ask for no gradient.

    Raises:
        UsageError: there are none.
    """
    chosen = []
    for name, parameter in model.named_parameters():
        wanted = trained == "all" or name.startswith(FUSION_PARTS)
        parameter.requires_grad_(wanted)
        chosen += [parameter] if wanted else []
    if not chosen:
        raise UsageError("nothing of this model would be trained")
    return chosen


def training_mode(model: DTFSal, trained: Trained, normalisation: Normalisation) -> None:
    """Put a model into training mode, but for what stays as it is.

    In evaluation mode a batch normalisation uses its running statistics and does not move them, and dropout drops
    nothing. What hears and the fusion keep batch statistics: a start from a visual model has none for them.
    """
    model.train()
    for name, part in model.named_children():
        if trained == "fusion" and not f"{name}.".startswith(FUSION_PARTS):
            part.eval()
    if normalisation == "frozen":
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) and not name.startswith(FUSION_PARTS):
                module.eval()


def checkpoint_blocks(model: DTFSal) -> None:
    """Have the encoder's blocks keep their inputs alone for the backward pass, and compute the rest again.

    Raises:
        UsageError: the encoder has no blocks.
    """
    blocks = getattr(model.encoder, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise UsageError(f"checkpoint_activations: the encoder of {model.config.name} has no blocks to do it for")
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
