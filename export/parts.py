"""The graphs of an engine: which part of the model each computes, and the tensors it takes and gives.

A model whose encoder mixes times is one graph, "window". One that sees frames alone is three, so that neighbouring
windows share their work: "frame" encodes a frame, "slice" a slice of sound, "head" makes a window's map of the two.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from dtfsal.engines.errors import UsageError
from dtfsal.engines.manifest import GraphSpec, TensorSpec
from dtfsal.training.config import PYRAMID_STRIDES, ModelConfig
from dtfsal.training.model import DTFSal

# "reuse": three graphs for models that see frames alone; "window": one graph for any model.
Graphs = Literal["reuse", "window"]

OUTPUT_NAME = "saliency_map"
SLICE_STRIDE = 16  # of VGGish's features, in rows and columns of a slice


@dataclasses.dataclass(frozen=True)
class GraphPart:
    """A graph that is to be exported.

    Attributes:
        name: in the manifest.
        module: the part of a model that it computes; its arguments and results are `inputs` and `outputs` in order.
        inputs: float32, all sizes fixed.
        outputs: float32, all sizes fixed.
    """

    name: str
    module: Callable[[DTFSal], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def stem(self) -> str:
        """What its files are called before their suffix: "model" for a whole model, else "model_frame" etc."""
        return "model" if self.name == "window" else f"model_{self.name}"

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zero tensors of the input shapes."""
        return tuple(torch.zeros(tensor.shape) for tensor in self.inputs)

    def spec(self, file: str) -> GraphSpec:
        """Its entry in the manifest, for the file that it was built to."""
        return GraphSpec(file, self.inputs, self.outputs)


def graph_parts(model: DTFSal, graphs: Graphs = "reuse", *, batch_size: int = 1) -> tuple[GraphPart, ...]:
    """The graphs of a model's engine.

    Args:
        model: the model.
        graphs: "reuse" for three graphs where the encoder sees frames alone; "window" for one in any case.
        batch_size: windows per run of a window graph.

    Raises:
        UsageError: three graphs for a batch of windows are asked for.
    """
    config = model.config
    if graphs == "window" or not model.encoder.per_frame:
        return (window_part(config, batch_size),)
    if batch_size != 1:
        raise UsageError(
            f"an engine of {config.name!r} encodes frame by frame and takes no batch of {batch_size} windows: leave "
            "--batch-size out, or build one graph for whole windows with --single-graph"
        )
    return tuple(part for part in (_frame_part(config), _slice_part(config), _head_part(config)) if part is not None)


def window_part(config: ModelConfig, batch_size: int = 1) -> GraphPart:
    """A whole model: `video` (B, 3, T, H, W) and, with sound, `audio` (B, S, 1, h, w) to the map (B, 1, H, W)."""
    clip = config.clip
    lowest, highest = _pixel_range(config)
    shape = (batch_size, 3, clip.frames, clip.height, clip.width)
    inputs = [TensorSpec("video", "float32", shape, lowest, highest, "(B, RGB, T, H, W), (x/255 - mean)/std")]
    if (audio := config.audio) is not None:
        shape = (batch_size, audio.slices, 1, audio.height, audio.width)
        inputs.append(TensorSpec("audio", "float32", shape, audio.silence, None, "(B, slices, 1, h, w), log-mel"))
    return GraphPart("window", lambda model: model, tuple(inputs), (_map_spec(config, batch_size),))


def _frame_part(config: ModelConfig) -> GraphPart:
    clip = config.clip
    lowest, highest = _pixel_range(config)
    frame = (1, 3, clip.height, clip.width)
    return GraphPart(
        "frame",
        _FrameGraph,
        (TensorSpec("frame", "float32", frame, lowest, highest, "(1, RGB, H, W), (x/255 - mean)/std"),),
        tuple(
            TensorSpec(name, "float32", (1, *shape), description=f"(1, C, h, w), level {level} of a frame")
            for level, (name, shape) in enumerate(_feature_shapes(config).items(), 1)
        ),
    )


def _slice_part(config: ModelConfig) -> GraphPart | None:
    if (audio := config.audio) is None:
        return None
    shape = (1, 1, audio.height, audio.width)
    return GraphPart(
        "slice",
        _SliceGraph,
        (TensorSpec("slice", "float32", shape, audio.silence, None, "(1, 1, h, w), log-mel"),),
        (TensorSpec("slice_features", "float32", (1, *_slice_shape(config)), description="(1, C, h, w), of a slice"),),
    )


def _head_part(config: ModelConfig) -> GraphPart:
    inputs = [
        TensorSpec(name, "float32", (1, config.times, *shape), description=f"(1, T, C, h, w), level {level}, by tap")
        for level, (name, shape) in enumerate(_feature_shapes(config).items(), 1)
    ]
    if config.audio is not None:
        shape = (1, config.audio.slices, *_slice_shape(config))
        inputs.append(TensorSpec("slice_features", "float32", shape, description="(1, slices, C, h, w)"))
    return GraphPart("head", _HeadGraph, tuple(inputs), (_map_spec(config, 1),))


def _pixel_range(config: ModelConfig) -> tuple[float, float]:
    """The normalised values of black and white, the least and the greatest of the channels'."""
    mean, std = config.clip.mean, config.clip.std
    lowest = min((0 - m) / s for m, s in zip(mean, std, strict=True))
    return lowest, max((1 - m) / s for m, s in zip(mean, std, strict=True))


def _map_spec(config: ModelConfig, batch_size: int) -> TensorSpec:
    shape = (batch_size, 1, config.clip.height, config.clip.width)
    return TensorSpec(OUTPUT_NAME, "float32", shape, 0.0, 1.0, "(B, 1, H, W), saliency of the target frame")


def _feature_shapes(config: ModelConfig) -> dict[str, tuple[int, int, int]]:
    """(C*, h, w) of a frame's refined features, by name."""
    clip = config.clip
    return {
        f"features_{level}": (config.width, clip.height // stride, clip.width // stride)
        for level, stride in enumerate(PYRAMID_STRIDES, 1)
    }


def _slice_shape(config: ModelConfig) -> tuple[int, int, int]:
    assert config.audio is not None
    return config.audio_branch.widths[-1], config.audio.height // SLICE_STRIDE, config.audio.width // SLICE_STRIDE


class _FrameGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) -> four tensors (1, C*, h_i, w_i)."""
        return tuple(self.model.encode_frames(frame))


class _SliceGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> Tensor:
        """(1, 1, h, w) -> (1, C, h/16, w/16)."""
        return self.model.audio.encode_slices(mel)


class _HeadGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        features_1: Tensor,
        features_2: Tensor,
        features_3: Tensor,
        features_4: Tensor,
        slice_features: Tensor | None = None,
    ) -> Tensor:
        """Four tensors (1, T, C*, h_i, w_i) and, with sound, (1, S, C, h, w) -> (1, 1, H, W)."""
        features = [level.flatten(0, 1) for level in (features_1, features_2, features_3, features_4)]
        saliency_map, _ = self.model.predict(features, slice_features, self.model.config.times)
        return saliency_map


__all__ = ["OUTPUT_NAME", "GraphPart", "Graphs", "graph_parts", "window_part"]
