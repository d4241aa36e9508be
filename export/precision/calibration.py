"""What values a graph's tensors take, found by running it in FP32 on windows of real videos or of made-up scenes.

An int8 engine writes each quantised tensor as one of 256 steps between the least and the greatest value seen here.
Nothing is drawn at random: the same windows give the same ranges.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from dtfsal.engines.bundle.chain import Values, chain_of_graphs, runs_of_window
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UsageError
from dtfsal.engines.onnx_runtime.engine import import_onnxruntime
from dtfsal.export.graph.costs import value_types
from dtfsal.export.graph.lowering import Forms, lowered
from dtfsal.export.graph.parts import GraphPart
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.inputs import Inputs, synthetic_windows, video_windows
from dtfsal.training.model.network import DTFSal

SYNTHETIC = "synthetic windows"
SYNTHETIC_SEED = 1000  # not that of the windows which parity is shown on
# Of a tensor's values in one run: a few outliers would coarsen the steps of all others. Ten times as many are
# worse for transformers and no better for convolutions.
OUTLIERS = 1e-5
# Forms that PyTorch runs. Batch normalisation is folded as in the graphs: into what one part gives another.
_RUNNABLE = Forms(deform_conv="gather", attention="decomposed")
# Parts that take a window piece by piece: of which of its inputs, along which axis.
_PIECES = {"frame": ("video", 2), "slice": ("audio", 1)}
_ENDS = {"lowest": 0, "highest": 1}
_FLAT, _LAST = "calibration/flat", "calibration/last"
_FATAL_ONLY = 4


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What ranges are taken from.

    Attributes:
        videos: windows are spread evenly over each; synthetic scenes if there are none.
        windows: of each video, or of made-up scenes.
    """

    videos: tuple[Path, ...] = ()
    windows: int = 8

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise UsageError(f"--calibration-windows must be at least 1, not {self.windows}")

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the videos' files, or `SYNTHETIC`."""
        return tuple(video.name for video in self.videos) or (SYNTHETIC,)

    def inputs(self, config: ModelConfig) -> list[Inputs]:
        """The windows as a model takes them.

        Raises:
            MediaError: a file is not a video.
            UsageError: a video has no frames, or none has the sound that the model listens to.
        """
        if not self.videos:
            return list(synthetic_windows(config, self.windows, seed=SYNTHETIC_SEED))
        found: list[Inputs] = []
        for video in self.videos:
            taken = list(video_windows(video, config, self.windows))
            if not taken:
                raise UsageError(f"{video} has no frames to calibrate on: give another --calibration video")
            found += taken
        audio = config.audio
        if audio is not None and all((window["audio"] <= audio.silence).all() for window in found):
            raise UsageError(
                f"there is no sound in {', '.join(self.sources)}, and {config.name!r} takes sound: "
                "give a --calibration video that has some"
            )
        return found


NO_CALIBRATION = Calibration()


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """Where the values of a tensor lie, without the few outliers on either side."""

    lowest: float
    highest: float


def part_inputs(
    model: DTFSal, part: GraphPart, parts: Sequence[GraphPart], windows: Sequence[Inputs]
) -> Iterator[Inputs]:
    """What the runs of a part's graph are given when an engine makes the windows' maps.

    Args:
        model: the model; it is not changed.
        part: one of the parts.
        parts: all of the engine's.
        windows: inputs of batch size 1.

    Yields:
        Inputs by the part's names: windows, their frames, their slices of sound, or what the other parts make of these.
    """
    if part.name == "window":
        slices = next((other for other in parts if other.name == "slice"), None)
        batch = max(1, part.inputs[0].shape[0])
        for window in windows:
            given = window if slices is None else _with_slices(model, slices, window)
            yield {name: np.repeat(value, batch, axis=0) for name, value in given.items()}
        return
    if part.name in _PIECES:
        for window in windows:
            yield from ({part.inputs[0].name: piece} for piece in _pieces(part.name, window))
        return
    specs = {other.name: other.spec(other.stem) for other in parts}
    chain = chain_of_graphs(specs, model.config.clip, model.config.audio)
    by_name = {other.name: other for other in parts}

    @functools.cache
    def runnable(graph: str) -> Callable[[Values], Values]:
        return _runnable(model, by_name[graph])

    for window in windows:
        frames, mels = _pieces("frame", window), _pieces("slice", window) if "audio" in window else []
        found = False
        for graph, inputs in runs_of_window(chain, lambda graph, inputs: runnable(graph)(inputs), frames, mels):
            if found and graph != part.name:
                break
            if found := graph == part.name:
                yield dict(inputs)


def _pieces(graph: str, window: Inputs) -> list[npt.NDArray[np.float32]]:
    """A window's frames (1, 3, H, W), or its slices of sound (1, 1, h, w)."""
    name, axis = _PIECES[graph]
    return [np.ascontiguousarray(piece) for piece in np.moveaxis(window[name], axis, 0)]


def _runnable(model: DTFSal, part: GraphPart) -> Callable[[Values], Values]:
    """A part as a function of arrays by name."""
    module = part.module(lowered(model, _RUNNABLE)).eval()

    def run(inputs: Values) -> Values:
        with torch.no_grad():
            results = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in part.inputs))
        results = results if isinstance(results, tuple) else (results,)
        return {tensor.name: result.numpy() for tensor, result in zip(part.outputs, results, strict=True)}

    return run


def _with_slices(model: DTFSal, part: GraphPart, window: Inputs) -> Inputs:
    """A window's video, and its slices as the part "slice" gives them."""
    listen = _runnable(model, part)
    slices = [listen({part.inputs[0].name: mel}) for mel in _pieces("slice", window)]
    name = part.outputs[0].name
    return {"video": window["video"], name: np.stack([features[name] for features in slices], axis=1)}


def value_ranges(
    model: onnx.ModelProto, names: Sequence[str], runs: Iterator[Inputs], *, outliers: float = OUTLIERS
) -> dict[str, ValueRange]:
    """The ranges of tensors over runs of a graph on ONNX Runtime.

    They are computed inside the graph, so that no tensor is kept.

    Args:
        model: an FP32 graph of fixed shapes, or one for any batch.
        names: of its tensors of float type, none of them a constant.
        runs: the inputs of each run.
        outliers: the share of a tensor's values in one run that may lie below its range, and above it.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    counts = {name: math.prod(_sizes(kind)) for name, kind in value_types(model).items()}
    graph.initializer.extend(
        [numpy_helper.from_array(np.array([-1]), _FLAT), numpy_helper.from_array(np.array(-1), _LAST)]
    )
    results = [f"{name}/{end}" for end in _ENDS for name in names]
    for name in names:
        count = max(1, math.ceil(outliers * counts[name]))
        graph.initializer.append(numpy_helper.from_array(np.array([count]), f"{name}/count"))
        graph.node.append(helper.make_node("Reshape", [name, _FLAT], [f"{name}/flat"], name=f"{name}/flat"))
        for end, largest in _ENDS.items():
            sorted_values, result = f"{name}/{end}/sorted", f"{name}/{end}"
            graph.node.append(
                helper.make_node(
                    "TopK",
                    [f"{name}/flat", f"{name}/count"],
                    [sorted_values, f"{sorted_values}/places"],
                    name=sorted_values,
                    largest=largest,
                )
            )
            graph.node.append(helper.make_node("Gather", [sorted_values, _LAST], [result], name=result))
            graph.output.append(helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, []))
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_threads()
    options.log_severity_level = _FATAL_ONLY
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen = [np.array(session.run(results, inputs), np.float64) for inputs in runs]
    lowest = np.min(seen, axis=0)[: len(names)]
    highest = np.max(seen, axis=0)[len(names) :]
    return {name: ValueRange(float(low), float(high)) for name, low, high in zip(names, lowest, highest, strict=True)}


def _sizes(kind: onnx.TypeProto.Tensor) -> list[int]:
    """A tensor's sizes; an open one counts once."""
    return [size.dim_value or 1 for size in kind.shape.dim]
