"""The graphs of an engine: which there are, that they fit together, and that they compute what PyTorch computes."""

import copy
import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from dtfsal.benchmarks.accuracy.parity import compare_engine, worst
from dtfsal.engines import open_engine
from dtfsal.engines.bundle.chain import chain_of_graphs, runs_of_window
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.errors import UsageError
from dtfsal.export import builder
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.parts import graph_parts, window_part
from dtfsal.export.graph.tap_convolution import (
    ConvolvedTaps,
    SharedTime,
    field_taps,
    first_convolution,
    shared_times,
    sum_convolved_taps,
)
from dtfsal.export.precision.half import to_reduced
from dtfsal.export.request import BuildRequest
from dtfsal.runtime.cli import main
from dtfsal.training import PRESETS
from dtfsal.training.model.blocks import Decoder, TemporalConv
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.network import build_model
from dtfsal.training.model.precision import declared_precisions
from dtfsal.training.model.seeded import synthetic_window
from dtfsal.training.model.weights import load_weights

SMALL = PRESETS["lite"].resized(frames=8, height=64, width=96)


def on_meta(config):
    with torch.device("meta"):
        return build_model(config)


NAMES = ["frame", "motion", "decode", "slice", "sound", "head"]


def test_only_encoders_that_see_frames_alone_have_several_graphs():
    silent = dataclasses.replace(SMALL, audio=None)
    unmixed = dataclasses.replace(SMALL, temporal_mixing=False)
    for config, graphs, names in [
        (SMALL, "reuse", NAMES),
        (silent, "reuse", ["frame", "motion", "decode", "head"]),
        (unmixed, "reuse", ["frame", "decode", "slice", "sound", "head"]),
        (SMALL.resized(frames=12), "reuse", ["frame", "motion", "slice", "sound", "head"]),  # zeros at its ends
        (SMALL.resized(frames=1), "reuse", ["frame", "slice", "sound", "head"]),
        (SMALL, "window", ["window"]),
        (PRESETS["tiny"], "reuse", ["window"]),
    ]:
        assert [part.name for part in graph_parts(on_meta(config), graphs)] == names
    stems = [part.stem for part in graph_parts(on_meta(SMALL))]
    assert stems == [f"model_{name}" for name in NAMES]
    assert window_part(SMALL).stem == "model"


def chain_of_parts(parts, config):
    graphs = {part.name: part.spec(part.stem) for part in parts}
    return chain_of_graphs(graphs, config.clip, config.audio)


@pytest.mark.parametrize("frames", [1, 4, 8, 12, 16, 32])
@pytest.mark.parametrize("mixing", [True, False])
def test_the_graphs_fit_together(mixing, frames):
    config = dataclasses.replace(SMALL.resized(frames=frames), temporal_mixing=mixing)
    parts = graph_parts(on_meta(config))
    chain = chain_of_parts(parts, config)
    for part in parts:
        if part.name not in ("frame", "slice"):
            wanted = {name: shape for name, (shape, _) in chain.wanted(part.name).items()}
            assert {tensor.name: tensor.shape for tensor in part.inputs} == wanted
    assert [tensor.shape for tensor in parts[0].inputs] == [(1, 3, 64, 96)]
    assert [tensor.shape for tensor in parts[-1].outputs] == [(1, 1, 64, 96)]
    taken = {tensor.name: tensor.shape for tensor in parts[-1].inputs}
    assert taken["features_4"] == (1, frames, 48, 2, 3)
    assert ("pooled_2" in taken) == mixing
    if frames == 16:
        assert taken["decoded_1"] == (1, 3, 16, 16, 24)
        assert chain.runs["decode"] == (4, 8, 12)
        assert chain.fields["decode"] == tuple(range(-3, 4))


def test_a_batch_of_windows_needs_the_single_graph():
    with pytest.raises(UsageError, match="--single-graph"):
        graph_parts(on_meta(SMALL), batch_size=2)
    (part,) = graph_parts(on_meta(SMALL), "window", batch_size=2)
    assert part.inputs[0].shape == (2, 3, 8, 64, 96)
    with pytest.raises(UsageError, match="graphs must be one of reuse, window"):
        BuildRequest(preset="lite", output="e", target="onnxruntime", precision="fp32", graphs="both")


@pytest.mark.parametrize("times", range(1, 25))
def test_the_convolution_in_two_steps_is_the_convolution(times):
    torch.manual_seed(times)
    conv = TemporalConv(5, 4).double()
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2 * times, 5, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        convolved = ConvolvedTaps(conv, times)(x)
        two_steps = sum_convolved_taps(conv, convolved, times)
        torch.testing.assert_close(two_steps, conv(x, times), rtol=0, atol=1e-12)  # float64, another order of sums
    assert [tap.shape[1] for tap in convolved] == [4] * len(conv.taps(times))


@pytest.mark.parametrize("times", range(1, 33))
def test_shared_times_are_what_the_second_convolution_leaves(times):
    """In float64, and for every length whether zeros are in the way."""
    torch.manual_seed(times)
    decoder = Decoder(5, (4, 3, 2, 2)).eval().double()
    for block in decoder.blocks:
        torch.nn.init.normal_(block.conv.bias)
    x = torch.randn(times, 5, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        expected, left, zeros = x, times, False
        for block in decoder.blocks[:2]:
            zeros = zeros or TemporalConv.padding(left) > 0
            expected, left = block(expected, left), TemporalConv.output_times(left)
        centres = shared_times(times)
        assert bool(centres) == (not zeros)
        if not centres:
            return
        convolved = ConvolvedTaps(first_convolution(decoder), times)(x)
        shared = SharedTime(copy.deepcopy(decoder))
        found = [
            shared([tensor[[centre + at for at in field_taps(tap)]][None] for tap, tensor in enumerate(convolved)])
            for centre in centres
        ]
    torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [{}, {"frames": 12}, {"frames": 16}, {"frames": 1}])
def test_the_parts_are_the_model(lite_weights, size):
    """In float64, so that nothing but the order of sums differs: the runs of one window, then the head."""
    model = load_weights(lite_weights)
    config = model.config.resized(**size)
    whole = build_model(config).eval().double()
    state = {name: value for name, value in model.state_dict().items() if name != "audio.resample"}
    whole.load_state_dict(state, strict=False)
    parts = {part.name: part for part in graph_parts(whole)}
    modules = {name: part.module(copy.deepcopy(whole)) for name, part in parts.items()}

    def run(graph, inputs):
        with torch.no_grad():
            results = modules[graph](*(torch.from_numpy(inputs[tensor.name]) for tensor in parts[graph].inputs))
        results = results if isinstance(results, tuple) else (results,)
        return {t.name: value.numpy() for t, value in zip(parts[graph].outputs, results, strict=True)}

    torch.manual_seed(3)
    video, audio = (tensor.double() for tensor in synthetic_window(config))
    with torch.no_grad():
        expected = whole(video, audio).numpy()
    frames, mels = [f.numpy() for f in video.unbind(2)], [m.numpy() for m in audio.unbind(1)]
    *_, (graph, inputs) = runs_of_window(chain_of_parts(parts.values(), config), run, frames, mels)
    assert graph == "head"
    np.testing.assert_allclose(run("head", inputs)["saliency_map"], expected, rtol=0, atol=1e-10)
    assert expected.std() > 0.01


def test_several_graphs_are_as_near_to_pytorch_as_one(lite_weights, lite_engine, lite_window_engine):
    model = load_weights(lite_weights)
    errors = []
    for path in (lite_engine, lite_window_engine):
        with open_engine(path, device="cpu", threads=1) as engine:
            results = list(compare_engine(model, engine, synthetic_windows(model.config, 2)))
        errors.append(worst(results).max_abs_error)
    # Random weights amplify float32's rounding; that of the split is two orders of the same sums.
    assert errors[0] <= errors[1] + 1e-5
    assert errors[1] < 1e-3


def test_the_model_that_is_exported_is_not_changed(lite_weights, lite_engine):
    model = load_weights(lite_weights)
    before = copy.deepcopy(model)
    graph_parts(model)
    assert model.decoders[0].blocks[0].conv.operator is before.decoders[0].blocks[0].conv.operator


def test_files_and_manifest(lite_engine, lite_window_engine):
    manifest = read_bundle(lite_engine).manifest
    assert {name: graph.file for name, graph in manifest.graphs.items()} == {n: f"model_{n}.onnx" for n in NAMES}
    with_weights = {f"model_{name}.onnx.data" for name in NAMES if name != "motion"}  # which has none
    assert set(manifest.files) == {"build.json", *with_weights} | {f"model_{name}.onnx" for name in NAMES}
    assert manifest.schema_version == 3
    weights = sum(record.size_bytes for name, record in manifest.files.items() if name.endswith(".data"))
    whole = read_bundle(lite_window_engine).manifest.files["model.onnx.data"].size_bytes
    assert weights < 1.2 * whole  # no graph holds another's weights; the three taps' are there with and without padding


def graph_of(engine, name):
    return onnx.load(engine / read_bundle(engine).manifest.graphs[name].file)


def test_nodes_are_named_by_their_place_in_the_model(lite_engine):
    starts = {
        "frame": ("encoder.stem.conv/", "enhance.0.gate/", "convolve.0/"),
        "slice": ("audio.vggish.features.0/",),
        "decode": ("decoders.0.blocks.1.conv/", "decoders.2.blocks.1.conv/"),
        "sound": ("audio.enhance",),
        "head": ("mixing.", "fusion.adaptive_stream.conv/DeformConv", "decoders.3.predict/MatMul"),
    }
    for name, places in starts.items():
        names = [node.name for node in graph_of(lite_engine, name).graph.node]
        assert len(set(names)) == len(names)
        assert not any(node.startswith("model.") for node in names)
        for place in places:
            assert any(node.startswith(place) for node in names), place


@pytest.mark.parametrize("name", NAMES)
def test_fp16_graphs_take_and_give_float32(lite_weights, lite_engine, name):
    declared = declared_precisions(load_weights(lite_weights))
    converted = to_reduced(graph_of(lite_engine, name), "fp16", declared)
    onnx.checker.check_model(converted, full_check=True)
    typed = onnx.shape_inference.infer_shapes(converted, check_type=True, strict_mode=True).graph
    assert {v.type.tensor_type.elem_type for v in [*typed.input, *typed.output]} == {TensorProto.FLOAT}
    convolutions = {node.output[0] for node in typed.node if node.op_type == "Conv" and "final" not in node.name}
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    assert {kinds[output] for output in convolutions} == (set() if name == "motion" else {TensorProto.FLOAT16})


@pytest.fixture
def quick_export(monkeypatch, lite_engine, lite_window_engine):
    """Take graphs of the small lite from its engines."""

    def loaded(model, target, precision, part, _forms):
        graph = graph_of(lite_window_engine if part.name == "window" else lite_engine, part.name)
        return graph if precision == "fp32" else to_reduced(graph, precision, declared_precisions(model))

    monkeypatch.setattr(builder, "export_graph", loaded)


def test_the_command_builds_either(tmp_path, quick_export, lite_weights, capsys):
    weights, three, one = str(lite_weights), tmp_path / "three", tmp_path / "one"
    arguments = ["build", "--weights", weights, "--precision", "fp16", "--inspect", "--json"]
    assert main([*arguments, "-o", str(three)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert list(report["manifest"]["graphs"]) == NAMES
    assert "dtfsal: building: ONNX, graph 'head'" in printed.err
    kinds = {layer["type"] for layer in report["layers"]}
    assert {"DeformConv", "MaxPool", "Attention"} <= kinds  # of the head, the slices, the sound
    assert main([*arguments, "--single-graph", "-o", str(one)]) == 0
    assert list(json.loads(capsys.readouterr().out)["manifest"]["graphs"]) == ["window"]
    assert main(["build", "--weights", weights, "--batch-size", "2", "-o", str(tmp_path / "two")]) == 2
    assert "--single-graph" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three"]
    with open_engine(three, device="cpu", threads=1) as engine:
        engine.warm_up()
        features = engine.run({"frame": np.zeros((1, 3, 64, 96), np.float32)}, graph="frame")
    assert {array.dtype for array in features.values()} == {np.dtype(np.float32)}
    assert main(["info", str(three)]) == 0
    assert "graph 'slice' in model_slice.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp16", pytest.param("fp32", marks=pytest.mark.slow)])
def test_tensorrt_rtx_builds_an_engine_for_each_graph(tmp_path, lite_weights, precision):
    pytest.importorskip("tensorrt_rtx")
    request = BuildRequest(weights=lite_weights, output=tmp_path / "rtx", target="tensorrt-rtx", precision=precision)
    manifest = build_engine(request)
    assert {name: graph.file for name, graph in manifest.graphs.items()} == {n: f"model_{n}.engine" for n in NAMES}
    files = {file for name in NAMES for file in (f"model_{name}.engine", f"layers_{name}.json")}
    assert set(manifest.files) == {"build.json"} | files
    for name in NAMES:
        layers = json.loads((tmp_path / "rtx" / f"layers_{name}.json").read_text())
        assert any("CONVOLUTION" in layer["type"] for layer in layers) or name in ("motion", "sound")
