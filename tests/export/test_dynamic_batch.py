"""Engines for any number of windows: the same maps as one window at a time, and a profile for TensorRT."""

import json

import numpy as np
import onnx
import pytest

from dtfsal.engines import open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.conversion import ExportError, check, count_operators
from dtfsal.export.graph.parts import graph_parts, window_part
from dtfsal.export.request import BuildRequest
from dtfsal.export.tensor_rt.builder import BatchProfile, EngineBuildError, _add_batch_profile
from dtfsal.training import PRESETS
from dtfsal.training.model.inputs import synthetic_windows


@pytest.fixture(scope="module")
def dynamic_engine(tmp_path_factory):
    output = tmp_path_factory.mktemp("dynamic") / "e"
    build_engine(BuildRequest(preset="tiny", output=output, target="onnxruntime", precision="fp32", max_batch_size=4))
    return output


@pytest.mark.slow
def test_any_batch_gives_the_maps_of_single_windows(dynamic_engine, model_of):
    windows = list(synthetic_windows(model_of("tiny").config, 3))
    with open_engine(dynamic_engine) as engine:
        spec = engine.manifest.graphs["window"]
        assert [tensor.shape[0] for tensor in (*spec.inputs, *spec.outputs)] == [-1, -1, -1]
        assert spec.inputs[0].shape[1:] == (3, 16, 96, 160)
        single = np.concatenate([engine.run(window)["saliency_map"] for window in windows])
        for count in (1, 2, 3):
            batch = {name: np.concatenate([w[name] for w in windows[:count]]) for name in windows[0]}
            maps = engine.run(batch)["saliency_map"]
            assert maps.shape == (count, 1, 96, 160)
            # The same float32 arithmetic, blocked differently for another batch.
            np.testing.assert_allclose(maps, single[:count], rtol=0, atol=1e-5)
    assert np.abs(single[0] - single[1]).max() > 0.05


@pytest.mark.slow
def test_any_batch_gives_the_maps_of_the_static_engine(dynamic_engine, model_of, graph_of):
    import onnxruntime

    static = onnxruntime.InferenceSession(
        graph_of("tiny", "onnxruntime", "fp32").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with open_engine(dynamic_engine) as engine:
        for window in synthetic_windows(model_of("tiny").config, 2):
            expected = static.run(None, window)[0]
            np.testing.assert_allclose(engine.run(window)["saliency_map"], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_graph_asks_for_the_batch_and_for_nothing_else(dynamic_engine):
    graph = onnx.load(dynamic_engine / "model.onnx", load_external_data=False)
    assert {dim.dim_param for value in graph.graph.input for dim in value.type.tensor_type.shape.dim[:1]} == {"batch"}
    assert "Shape" in count_operators(graph)
    with pytest.raises(ExportError, match="Shape"):
        check(graph)
    record = json.loads((dynamic_engine / "build.json").read_text())
    assert (record["tuned_batch"], record["max_batch_size"]) == (4, 4)


@pytest.mark.slow
def test_tensorrt_rtx_builds_a_profile(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    request = BuildRequest(
        preset="tiny",
        output=tmp_path / "e",
        target="tensorrt-rtx",
        precision="fp16",
        batch_size=2,
        max_batch_size=4,
        report=True,
    )
    manifest = build_engine(request)
    assert manifest.graphs["window"].inputs[0].shape[0] == -1
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert report["windows"] == 2
    assert {row["shape"]["batch"] for row in report["attentions"]} == {2}
    assert [row["fused"] for row in report["attentions"]] == [True] * 6


class _Builder:
    def __init__(self):
        self.shapes = {}

    def create_optimization_profile(self):
        return self

    def set_shape(self, name, *sizes):
        self.shapes[name] = sizes


class _Network:
    num_inputs = 2

    def get_input(self, index):
        return type("T", (), {"name": ("video", "audio")[index], "shape": ((-1, 3, 4), (-1, 9))[index]})


def test_a_profile_covers_every_input():
    builder, config = _Builder(), type("C", (), {"add_optimization_profile": lambda _self, _profile: 0})()
    _add_batch_profile(builder, _Network(), config, BatchProfile(tuned=3, largest=8))
    assert builder.shapes == {"video": ([1, 3, 4], [3, 3, 4], [8, 3, 4]), "audio": ([1, 9], [3, 9], [8, 9])}
    refusing = type("C", (), {"add_optimization_profile": lambda _self, _profile: -1})()
    with pytest.raises(EngineBuildError, match="1 to 8 windows, tuned for 3"):
        _add_batch_profile(_Builder(), _Network(), refusing, BatchProfile(tuned=3, largest=8))


def test_an_engine_of_several_graphs_takes_no_batch(model_of):
    assert window_part(PRESETS["tiny"], -1).example_inputs()[0].shape[0] == 2
    with pytest.raises(UsageError, match="--max-batch-size"):
        graph_parts(model_of("lite"), batch_size=-1)


@pytest.mark.parametrize(
    ("sizes", "tuned", "graph"), [((None, None), 1, 1), ((3, None), 3, 3), ((None, 8), 8, -1), ((2, 8), 2, -1)]
)
def test_what_a_request_asks_for(tmp_path, sizes, tuned, graph):
    request = BuildRequest(
        preset="tiny",
        output=tmp_path,
        target="onnxruntime",
        precision="fp32",
        batch_size=sizes[0],
        max_batch_size=sizes[1],
    )
    assert (request.tuned_batch, request.graph_batch) == (tuned, graph)
