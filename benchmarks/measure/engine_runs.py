"""One window through an engine, by whichever graphs it has. Imports no torch, so that an engine's memory is its own."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dtfsal.engines import Engine
from dtfsal.engines.bundle.chain import chain_of, runs_of_window

FloatArray = npt.NDArray[np.float32]
Inputs = dict[str, FloatArray]
Run = Callable[[Inputs], FloatArray]


def window_run(engine: Engine) -> Run:
    """What takes a window's inputs by name and gives maps (B, 1, H, W), from an engine of either kind."""
    if set(engine.manifest.graphs) == {"window"}:
        return lambda inputs: engine.run(inputs)["saliency_map"]
    return lambda inputs: run_graphs(engine, inputs)


def run_graphs(engine: Engine, inputs: Inputs) -> FloatArray:
    """The map (1, 1, H, W) of one window from an engine of several graphs: see `dtfsal.export.graph.parts`."""
    if "window" in engine.manifest.graphs:
        taken = {"video": inputs["video"], "slice_features": slice_features(engine, inputs["audio"])}
        return engine.run(taken)["saliency_map"]
    frames = [np.ascontiguousarray(frame) for frame in np.moveaxis(inputs["video"], 2, 0)]
    mels = [np.ascontiguousarray(mel) for mel in np.moveaxis(inputs["audio"], 1, 0)] if "audio" in inputs else []
    runs = runs_of_window(chain_of(engine.manifest), lambda graph, given: engine.run(given, graph=graph), frames, mels)
    *_, (graph, last) = runs
    return engine.run(last, graph=graph)["saliency_map"]


def slice_features(engine: Engine, audio: FloatArray) -> FloatArray:
    """(1, S, 1, h, w) log-mel slices to (1, S, C, h', w') by an engine's graph "slice"."""
    mels = audio.swapaxes(0, 1)  # (S, 1, 1, h, w)
    return np.stack([engine.run({"slice": mel}, graph="slice")["slice_features"] for mel in mels], axis=1)
