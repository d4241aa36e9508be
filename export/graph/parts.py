"""The graphs of an engine: which part of the model each computes, and the tensors it takes and gives.

A model whose encoder mixes times is one graph, "window". One that sees frames alone is several, so that neighbouring
windows share their work (see `dtfsal.engines.bundle.chain`):

- "frame" computes all that depends on a frame alone, up to the first convolution of the decoders of levels 1 to 3;
- "decode" goes on from 7 of a window's times to one that those decoders' second convolutions leave
  (see `dtfsal.export.graph.tap_convolution`);
- "motion" tells how level 2 changes from one time to the next;
- "slice" encodes a slice of sound, and "sound" a window's slices;
- "head" makes a window's map of them.

Level 4 is decoded in the head, since it waits for the sound. Where the encoder mixes times, the sound can still be
shared: by "slice", and a "window" that takes slices' features in the place of its sound.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, TensorSpec
from dtfsal.engines.errors import UsageError
from dtfsal.export.graph.part_modules import (
    CONVOLVED_LEVELS,
    DecodeGraph,
    FrameGraph,
    HeadGraph,
    MotionGraph,
    SliceGraph,
    SoundGraph,
    WindowGraph,
)
from dtfsal.export.graph.tap_convolution import TAP_NAMES, field_taps, first_convolution, shared_times
from dtfsal.training.model.audio import SLICE_STRIDE
from dtfsal.training.model.config import PYRAMID_STRIDES, ModelConfig
from dtfsal.training.model.network import DTFSal

# "reuse": several graphs for models that see frames alone; "window": one graph for any model; "sound": as "reuse", and
# for models that mix times and hear, one graph for the sound and one for the rest.
Graphs = Literal["reuse", "window", "sound"]

OUTPUT_NAME = "saliency_map"
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
        taps: the times that inputs stack; see `GraphSpec`.
    """

    name: str
    module: Callable[[DTFSal], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    taps: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

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
        return GraphSpec(file, self.inputs, self.outputs, self.taps)


def graph_parts(model: DTFSal, graphs: Graphs = "reuse", *, batch_size: int = 1) -> tuple[GraphPart, ...]:
    """The graphs of a model's engine.

    Args:
        model: the model.
        graphs: "reuse" for several graphs where the encoder sees frames alone; "window" for one in any case; "sound"
            for two where the encoder mixes times and there is sound.
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
    values = _Values(model)
    parts = (
        _frame_part(values),
        _motion_part(values),
        _decode_part(values),
        slices,
        _sound_part(config),
        _head_part(values),
    )
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
    return GraphPart("window", WindowGraph, (video, features), (_map_spec(model.config, 1),))


@dataclasses.dataclass(frozen=True)
class _Value:
    """What a graph gives for a time: its name, its (C, h, w), and what it is."""

    name: str
    shape: tuple[int, int, int]
    what: str

    def spec(self) -> TensorSpec:
        """As an output."""
        return TensorSpec(self.name, "float32", (1, *self.shape), description=f"(1, C, h, w), {self.what}")

    def stacked(self, count: int) -> TensorSpec:
        """As an input, of so many times."""
        return TensorSpec(self.name, "float32", (1, count, *self.shape), description=f"(1, T, C, h, w), {self.what}")


class _Values:
    """What the graphs of a model give each other for each time, and when."""

    def __init__(self, model: DTFSal) -> None:
        self.config = config = model.config
        self.times = config.times
        self.grids = [(config.clip.height // stride, config.clip.width // stride) for stride in PYRAMID_STRIDES]
        self.shared_times = shared_times(config.times)
        self.convolved: dict[str, tuple[_Value, int]] = {}  # with the tap
        self.decoded: list[_Value] = []
        for level in range(1, CONVOLVED_LEVELS + 1):
            decoder, grid = model.decoders[level - 1], self.grids[level - 1]
            conv = first_convolution(decoder)
            for tap in conv.taps(config.times):
                what = f"level {level}, convolved as the {TAP_NAMES[tap]} time of its decoder's first kernel"
                name = f"convolved_{level}_{TAP_NAMES[tap]}"
                self.convolved[name] = (_Value(name, (conv.weight.shape[0], *grid), what), tap)
            what = f"level {level}, after its decoder's second convolution"
            self.decoded.append(_Value(f"decoded_{level}", (config.decoder_widths[1], *grid), what))
        features = [(config.width, *grid) for grid in self.grids]
        self.level_4 = _Value("features_4", features[3], "level 4")
        self.level_2 = self.pooled = self.change = None
        if config.temporal_mixing:
            self.pooled = _Value("pooled_2", features[3], "level 2, averaged over level 4's cells")
            if config.times > 1:
                self.level_2 = _Value("features_2", features[1], "level 2")
                self.change = _Value(
                    "change_2", features[3], "change of level 2 since the time before, averaged likewise"
                )


def _frame_part(values: _Values) -> GraphPart:
    clip = values.config.clip
    lowest, highest = _pixel_range(values.config)
    frame = (1, 3, clip.height, clip.width)
    given = [*(value for value, _ in values.convolved.values()), values.level_2, values.pooled, values.level_4]
    return GraphPart(
        "frame",
        FrameGraph,
        (TensorSpec("frame", "float32", frame, lowest, highest, "(1, RGB, H, W), (x/255 - mean)/std"),),
        tuple(value.spec() for value in given if value is not None),
    )


def _motion_part(values: _Values) -> GraphPart | None:
    if values.level_2 is None or values.change is None:
        return None
    taps = {values.level_2.name: (-1, 0)}
    return GraphPart("motion", MotionGraph, (values.level_2.stacked(2),), (values.change.spec(),), taps)


def _decode_part(values: _Values) -> GraphPart | None:
    if not values.shared_times:
        return None
    taps = {name: field_taps(tap) for name, (_, tap) in values.convolved.items()}
    inputs = tuple(value.stacked(len(taps[name])) for name, (value, _) in values.convolved.items())
    return GraphPart("decode", DecodeGraph, inputs, tuple(value.spec() for value in values.decoded), taps)


def _slice_part(config: ModelConfig) -> GraphPart | None:
    if (audio := config.audio) is None:
        return None
    shape = (1, 1, audio.height, audio.width)
    return GraphPart(
        "slice",
        SliceGraph,
        (TensorSpec("slice", "float32", shape, audio.silence, None, "(1, 1, h, w), log-mel"),),
        (TensorSpec("slice_features", "float32", (1, *_slice_shape(config)), description="(1, C, h, w), of a slice"),),
    )


def _sound_part(config: ModelConfig) -> GraphPart | None:
    if (audio := config.audio) is None:
        return None
    shape = (1, audio.slices, *_slice_shape(config))
    slices = TensorSpec("slice_features", "float32", shape, description="(1, slices, C, h, w)")
    return GraphPart("sound", SoundGraph, (slices,), (_heard_spec(config),))


def _head_part(values: _Values) -> GraphPart:
    config = values.config
    all_times = range(values.times)
    taken: list[tuple[_Value | None, tuple[int, ...]]] = [(value, values.shared_times) for value in values.decoded]
    if not values.shared_times:
        taken = [(value, tuple(all_times)) for value, _ in values.convolved.values()]
    taken += [
        (values.pooled, tuple(all_times)),
        (values.change, tuple(all_times[1:])),
        (values.level_4, tuple(all_times)),
    ]
    taps = {value.name: at for value, at in taken if value is not None}
    inputs = [value.stacked(len(at)) for value, at in taken if value is not None]
    if config.audio is not None:
        inputs.append(_heard_spec(config))
    names = [tensor.name for tensor in inputs]
    return GraphPart("head", lambda model: HeadGraph(model, names), tuple(inputs), (_map_spec(config, 1),), taps)


def _pixel_range(config: ModelConfig) -> tuple[float, float]:
    """The normalised values of black and white, the least and the greatest of the channels'."""
    mean, std = config.clip.mean, config.clip.std
    lowest = min((0 - m) / s for m, s in zip(mean, std, strict=True))
    return lowest, max((1 - m) / s for m, s in zip(mean, std, strict=True))


def _map_spec(config: ModelConfig, batch_size: int) -> TensorSpec:
    shape = (batch_size, 1, config.clip.height, config.clip.width)
    return TensorSpec(OUTPUT_NAME, "float32", shape, 0.0, 1.0, "(B, 1, H, W), saliency of the target frame")


def _slice_shape(config: ModelConfig) -> tuple[int, int, int]:
    assert config.audio is not None
    return config.audio_branch.widths[-1], config.audio.height // SLICE_STRIDE, config.audio.width // SLICE_STRIDE


def _heard_spec(config: ModelConfig) -> TensorSpec:
    grid = (1, 1) if config.audio_branch.readout == "timeline" else _slice_shape(config)[1:]
    shape = (1, config.times, config.width, *grid)
    return TensorSpec("heard", "float32", shape, description="(1, T, C, h, w), the sound on the window's times")
