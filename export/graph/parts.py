"""The graphs of an engine: which part of the model each computes, and the tensors it takes and gives.

A model whose encoder mixes times is one graph, "window". One that sees frames alone is three, so that neighbouring
windows share their work: "frame" computes all that depends on a frame alone, "slice" on a slice of sound alone, and
"head" makes a window's map of them. A frame's features go into the first convolution of their levels' decoders at
once (see `dtfsal.export.graph.tap_convolution`); level 4's wait for the sound. Where the encoder mixes times, the sound
can still be shared: by "slice", and a "window" that takes slices' features in the place of its sound.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, TensorSpec
from dtfsal.engines.errors import UsageError
from dtfsal.export.graph.tap_convolution import TAP_NAMES, ConvolvedTaps, first_convolution, take_convolved_taps
from dtfsal.training.model.audio import SLICE_STRIDE
from dtfsal.training.model.config import PYRAMID_STRIDES, ModelConfig
from dtfsal.training.model.network import DTFSal

# "reuse": three graphs for models that see frames alone; "window": one graph for any model; "sound": as "reuse", and
# for models that mix times and hear, one graph for the sound and one for the rest.
Graphs = Literal["reuse", "window", "sound"]

OUTPUT_NAME = "saliency_map"
CONVOLVED_LEVELS = 3  # level 4 is fused with the sound before it is decoded
TRACED_BATCH = 2  # of a graph for any batch: 1 would be taken for a constant


@dataclasses.dataclass(frozen=True)
class GraphPart:
    """A graph that is to be exported.

    Attributes:
        name: in the manifest.
        module: the part of a model that it computes; its arguments and results are `inputs` and `outputs` in order.
            It may change the model that it is given.
        inputs: float32, all sizes fixed but, in a graph for any batch, the first of each.
        outputs: as the inputs.
    """

    name: str
    module: Callable[[DTFSal], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def stem(self) -> str:
        """What its files are called before their suffix: "model" for a whole model, else "model_frame" etc."""
        return "model" if self.name == "window" else f"model_{self.name}"

    @property
    def dynamic_batch(self) -> bool:
        """Whether it takes any number of windows."""
        return any(tensor.shape[0] == DYNAMIC for tensor in self.inputs)

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zero tensors of the input shapes; two windows where any number goes."""
        shapes = [[TRACED_BATCH if size == DYNAMIC else size for size in tensor.shape] for tensor in self.inputs]
        return tuple(torch.zeros(shape) for shape in shapes)

    def spec(self, file: str) -> GraphSpec:
        """Its entry in the manifest, for the file that it was built to."""
        return GraphSpec(file, self.inputs, self.outputs)


def graph_parts(model: DTFSal, graphs: Graphs = "reuse", *, batch_size: int = 1) -> tuple[GraphPart, ...]:
    """The graphs of a model's engine.

    Args:
        model: the model.
        graphs: "reuse" for three graphs where the encoder sees frames alone; "window" for one in any case; "sound" for
            two where the encoder mixes times and there is sound.
        batch_size: windows per run of a window graph; `DYNAMIC` for any number.

    Raises:
        UsageError: several graphs for a batch of windows are asked for.
    """
    config = model.config
    slices = _slice_part(config)
    if graphs == "sound" and slices is not None and not model.encoder.per_frame:
        if batch_size != 1:
            raise UsageError("an engine that encodes each slice of sound once takes no batch: leave --reuse-sound out")
        return (slices, _window_without_slices(model))
    if graphs == "window" or not model.encoder.per_frame:
        return (window_part(config, batch_size),)
    if batch_size != 1:
        batch = "windows" if batch_size == DYNAMIC else f"{batch_size} windows"
        raise UsageError(
            f"an engine of {config.name!r} encodes frame by frame and takes no batch of {batch}: leave --batch-size "
            "and --max-batch-size out, or build one graph for whole windows with --single-graph"
        )
    parts = (_frame_part(model), slices, _head_part(model))
    return tuple(part for part in parts if part is not None)


def window_part(config: ModelConfig, batch_size: int = 1) -> GraphPart:
    """A whole model: `video` (B, 3, T, H, W) and, with sound, `audio` (B, S, 1, h, w) to the map (B, 1, H, W).

    B is `batch_size`, or any where that is `DYNAMIC`.
    """
    clip = config.clip
    lowest, highest = _pixel_range(config)
    shape = (batch_size, 3, clip.frames, clip.height, clip.width)
    inputs = [TensorSpec("video", "float32", shape, lowest, highest, "(B, RGB, T, H, W), (x/255 - mean)/std")]
    if (audio := config.audio) is not None:
        shape = (batch_size, audio.slices, 1, audio.height, audio.width)
        inputs.append(TensorSpec("audio", "float32", shape, audio.silence, None, "(B, slices, 1, h, w), log-mel"))
    return GraphPart("window", lambda model: model, tuple(inputs), (_map_spec(config, batch_size),))


def _window_without_slices(model: DTFSal) -> GraphPart:
    """`window_part` with what the slice graph gave in the place of its sound."""
    video, audio = window_part(model.config).inputs
    shape = (1, audio.shape[1], *_slice_shape(model.config))
    features = TensorSpec("slice_features", "float32", shape, description="(1, slices, C, h, w)")
    return GraphPart("window", _WindowGraph, (video, features), (_map_spec(model.config, 1),))


def _frame_part(model: DTFSal) -> GraphPart:
    clip = model.config.clip
    lowest, highest = _pixel_range(model.config)
    frame = (1, 3, clip.height, clip.width)
    return GraphPart(
        "frame",
        _FrameGraph,
        (TensorSpec("frame", "float32", frame, lowest, highest, "(1, RGB, H, W), (x/255 - mean)/std"),),
        tuple(
            TensorSpec(name, "float32", (1, *shape), description=f"(1, C, h, w), {what}")
            for name, shape, what in _frame_features(model)
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


def _head_part(model: DTFSal) -> GraphPart:
    config = model.config
    inputs = [
        TensorSpec(name, "float32", (1, config.times, *shape), description=f"(1, T, C, h, w), {what}")
        for name, shape, what in _frame_features(model)
    ]
    if config.audio is not None:
        shape = (1, config.audio.slices, *_slice_shape(config))
        inputs.append(TensorSpec("slice_features", "float32", shape, description="(1, slices, C, h, w)"))
    names = [tensor.name for tensor in inputs]
    return GraphPart("head", lambda model: _HeadGraph(model, names), tuple(inputs), (_map_spec(config, 1),))


def _pixel_range(config: ModelConfig) -> tuple[float, float]:
    """The normalised values of black and white, the least and the greatest of the channels'."""
    mean, std = config.clip.mean, config.clip.std
    lowest = min((0 - m) / s for m, s in zip(mean, std, strict=True))
    return lowest, max((1 - m) / s for m, s in zip(mean, std, strict=True))


def _map_spec(config: ModelConfig, batch_size: int) -> TensorSpec:
    shape = (batch_size, 1, config.clip.height, config.clip.width)
    return TensorSpec(OUTPUT_NAME, "float32", shape, 0.0, 1.0, "(B, 1, H, W), saliency of the target frame")


def _frame_features(model: DTFSal) -> list[tuple[str, tuple[int, int, int], str]]:
    """Name, (C, h, w) and description of what the frame graph gives, in order."""
    config = model.config
    grids = [(config.clip.height // stride, config.clip.width // stride) for stride in PYRAMID_STRIDES]
    found = []
    for level in range(1, CONVOLVED_LEVELS + 1):
        conv = first_convolution(model.decoders[level - 1])
        shape = (conv.weight.shape[0], *grids[level - 1])
        for tap in conv.taps(config.times):
            what = f"level {level}, convolved as the {TAP_NAMES[tap]} time of its decoder's first kernel"
            found.append((f"convolved_{level}_{TAP_NAMES[tap]}", shape, what))
    levels = (2, 4) if config.temporal_mixing else (4,)  # changes of level 2 are mixed into level 4
    return found + [(f"features_{level}", (config.width, *grids[level - 1]), f"level {level}") for level in levels]


def _slice_shape(config: ModelConfig) -> tuple[int, int, int]:
    assert config.audio is not None
    return config.audio_branch.widths[-1], config.audio.height // SLICE_STRIDE, config.audio.width // SLICE_STRIDE


class _WindowGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor, slice_features: Tensor) -> Tensor:
        """(1, 3, T, H, W) and (1, S, C, h, w) -> (1, 1, H, W)."""
        features = self.model.encode_clip(video)
        saliency_map, _ = self.model.predict(features, slice_features, self.model.config.times)
        return saliency_map


class _FrameGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model
        self.convolve = nn.ModuleList(
            [ConvolvedTaps(first_convolution(d), model.config.times) for d in model.decoders[:CONVOLVED_LEVELS]]
        )

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) -> tensors (1, C, h, w) as `_frame_features` lists them."""
        levels = self.model.encode_frames(frame)
        convolved = [tap for convolve, level in zip(self.convolve, levels, strict=False) for tap in convolve(level)]
        return (*convolved, *([levels[1]] if self.model.config.temporal_mixing else []), levels[3])


class _SliceGraph(nn.Module):
    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> Tensor:
        """(1, 1, h, w) -> (1, C, h/16, w/16)."""
        return self.model.audio.encode_slices(mel)


class _HeadGraph(nn.Module):
    def __init__(self, model: DTFSal, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)
        for decoder in model.decoders[:CONVOLVED_LEVELS]:
            take_convolved_taps(decoder)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors (1, T, C, h, w) and, with sound, (1, S, C, h, w), in the order of the names -> (1, 1, H, W)."""
        given = dict(zip(self.names, tensors, strict=True))
        slice_features = given.pop("slice_features", None)
        given = {name: tensor.flatten(0, 1) for name, tensor in given.items()}
        convolved = [
            tuple(tensor for name, tensor in given.items() if name.startswith(f"convolved_{level}_"))
            for level in range(1, CONVOLVED_LEVELS + 1)
        ]
        times = self.model.config.times
        deepest = given["features_4"]
        fused = self.model.fuse(given.get("features_2", deepest), deepest, slice_features, times)
        # The decoders' first convolutions take the taps of a level in the place of its features.
        saliency_map, _ = self.model.decode([*cast(list[Tensor], convolved), fused], times)
        return saliency_map
