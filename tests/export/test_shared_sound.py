"""Slices of sound that neighbouring windows share, in a model that mixes times."""

import numpy as np
import pytest

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
from dtfsal.engines import open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.parts import graph_parts
from dtfsal.export.request import BuildRequest
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.cli import main
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.seeded import seeded_model


def test_graphs_of_a_model_that_mixes_times():
    model = seeded_model("tiny")
    slices, window = graph_parts(model, "sound")
    assert [tensor.name for tensor in window.inputs] == ["video", "slice_features"]
    assert window.inputs[1].shape == (1, 9, *slices.outputs[0].shape[1:])
    # Nothing to share: no sound; and an encoder that sees frames alone shares more.
    assert [part.name for part in graph_parts(seeded_model("tiny-v"), "sound")] == ["window"]
    assert [part.name for part in graph_parts(seeded_model("lite"), "sound")] == [
        "frame",
        "motion",
        "decode",
        "slice",
        "sound",
        "head",
    ]
    with pytest.raises(UsageError, match="takes no batch"):
        graph_parts(model, "sound", batch_size=2)


def test_contradicting_options(tmp_path):
    words = ["build", "--preset", "tiny", "--single-graph", "--reuse-sound", "--output", str(tmp_path / "e")]
    assert main(words) == 2


@pytest.mark.slow
def test_maps_are_those_of_whole_windows(tmp_path):
    engines = {}
    for graphs in ("window", "sound"):
        engines[graphs] = tmp_path / f"{graphs}.engine"
        build_engine(
            BuildRequest(output=engines[graphs], preset="tiny", target="onnxruntime", precision="fp32", graphs=graphs)
        )
    with open_engine(engines["sound"], device="cpu") as engine:
        model = model_of(engine.manifest)
        found = worst(list(compare_engine(model, engine, synthetic_windows(model.config, 2))))
    assert not BARS["fp32"].misses(found)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 96, 160, 3), np.uint8)
    sound = rng.normal(0, 0.1, 8000).astype(np.float32)  # half a second, then silence
    maps = {}
    for graphs, path in engines.items():
        with SaliencyPredictor(path, threads=1) as predictor:
            maps[graphs] = predictor.predict_arrays(frames, 25.0, sound, 16000)
    np.testing.assert_allclose(maps["sound"], maps["window"], atol=1e-5)
