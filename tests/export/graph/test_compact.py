"""Weights in half precision are the same weights, and the engines that the package carries are today's."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dtfsal.engines import UsageError, read_bundle
from dtfsal.engines.bundle.manifest import sha256_file
from dtfsal.engines.bundle.shipped import shipped_engines
from dtfsal.export.builder import build_engine, export_graph
from dtfsal.export.graph.compact import with_half_weights
from dtfsal.export.graph.conversion import ExportError
from dtfsal.export.graph.parts import graph_parts
from dtfsal.export.request import BuildRequest
from dtfsal.runtime import SaliencyPredictor
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import shipped_weights

# Token maps are sums of 432 products of numbers about 1, in float32 and in another order.
MAPS_TOLERANCE = 1e-5


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def unpacked(model, wanted):
    """Values of a compact graph's constants, and the nodes that compute with them."""
    stored = constants(model)
    names = {tensor.split(".half")[0] for tensor in stored if tensor.endswith(".half")}
    prefixes = tuple(f"{name}." for name in names)
    first = [node for node in model.graph.node if node.output[0] in names or node.output[0].startswith(prefixes)]
    graph = helper.make_graph(
        first,
        "constants",
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, wanted[name].shape) for name in sorted(names)],
        model.graph.initializer,
    )
    values = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, {})
    kept = {name: value for name, value in stored.items() if not name.startswith(prefixes)}
    return kept | dict(zip(sorted(names), values, strict=True)), list(model.graph.node)[len(first) :]


def assert_same_graph(compact, plain):
    wanted = constants(plain)
    found, nodes = unpacked(compact, wanted)
    assert nodes == list(plain.graph.node)
    assert list(compact.graph.output) == list(plain.graph.output)
    assert found.keys() == wanted.keys()
    other = [name for name in wanted if not np.array_equal(found[name], wanted[name])]
    for name in other:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=MAPS_TOLERANCE * np.abs(wanted[name]).max())
    assert len(other) <= 4  # token maps, one for each level


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """An engine that `dtfsal build --preset lite` makes of the shipped weights."""
    output = tmp_path_factory.mktemp("fresh") / "lite.engine"
    build_engine(BuildRequest(preset="lite", output=output, target="onnxruntime", precision="fp32"))
    return output


def test_the_shipped_engine_is_that_of_a_fresh_build(fresh):
    """Else the package would show other maps than its weights give: run `make shipped-engines`."""
    shipped, built = read_bundle("lite"), read_bundle(fresh)
    assert shipped.manifest.size_bytes < 9e6
    for field in ("graphs", "model_config", "weights", "clip", "audio", "target", "precision"):
        assert getattr(shipped.manifest, field) == getattr(built.manifest, field)
    for graph in built.manifest.graphs.values():
        assert_same_graph(onnx.load(shipped.path / graph.file), onnx.load(built.path / graph.file))


def test_the_shipped_engine_gives_the_maps_of_a_fresh_build(fresh, make_toy_clip):
    rng = np.random.default_rng(0)
    clip = make_toy_clip(frames=rng.integers(0, 256, (6, 90, 160, 3), np.uint8), sound_seconds=0.24)
    maps = []
    for engine in ("lite", fresh):
        with SaliencyPredictor(engine, threads=1) as predictor:
            maps.append(np.stack([frame.saliency_map for frame in predictor.predict_file(clip)]))
    np.testing.assert_allclose(*maps, rtol=0, atol=1e-5)
    assert np.ptp(maps[0]) > 0.01  # a map of noise is flat, and no constant


def test_engines_of_other_precisions_are_of_the_same_weights():
    weights = sha256_file(shipped_weights("lite"))
    for name in shipped_engines():
        assert read_bundle(name).manifest.weights["sha256"] == weights


def test_weights_that_are_not_half_precision_numbers():
    model = seeded_model("tiny-v")
    (part,) = graph_parts(model)
    with pytest.raises(ExportError, match="no half-precision numbers: build without --half-weights"):
        with_half_weights(export_graph(model, "onnxruntime", "fp32", part), model)


def test_other_targets_have_no_half_weights(tmp_path):
    with pytest.raises(UsageError, match="--half-weights is for the target onnxruntime"):
        BuildRequest(preset="lite", output=tmp_path, target="openvino", precision="fp32", half_weights=True)
