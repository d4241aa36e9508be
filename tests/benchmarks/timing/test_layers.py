"""A profile merged with a graph's costs: made events by hand, and one run of the command on a small engine."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.benchmarks.timing.layers import MOVED, grouped, markdown, merge, products
from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.runtime.cli import main


@pytest.fixture
def model():
    """A linear layer of the encoder and a convolution of the decoders."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="encoder.blocks.0.attn.qkv/MatMul.0"),
        helper.make_node("Reshape", ["m", "shape"], ["r"], name="decoders.0/Reshape.1"),
        helper.make_node("Conv", ["r", "k"], ["c"], name="decoders.0.blocks.0.conv/Conv.2", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["relu"], name="decoders.0.blocks.0/Relu.3"),
    ]
    weights = {"w": np.zeros((4, 6), np.float32), "k": np.zeros((2, 1, 3, 3), np.float32)}
    weights["shape"] = np.array([1, 1, 10, 6])
    graph = helper.make_graph(
        nodes,
        "some",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [10, 4])],
        [helper.make_tensor_value_info("relu", TensorProto.FLOAT, [1, 2, 10, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    onnx.checker.check_model(made)
    return made


def event(name, operator, microseconds, inputs=(), outputs=()):
    def records(shapes):
        return [{"float": list(shape)} for shape in shapes]

    args = {"op_name": operator, "input_type_shape": records(inputs), "output_type_shape": records(outputs)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": args}


def test_layers_by_hand(model):
    events = []
    for microseconds in (9000, 100, 300, 200):  # the first is no part of three runs
        events += [
            event("encoder.blocks.0.attn.qkv/MatMul.0", "MatMul", microseconds, [(10, 4), (4, 6)], [(10, 6)]),
            event("relu_nchwc", "Conv", 2 * microseconds, [(1, 1, 10, 6), (2, 1, 3, 3)], [(1, 2, 10, 6)]),
            event("Transpose_token_7", "Transpose", microseconds, [(10, 6)], [(6, 10)]),
        ]
    events.append({"cat": "Session", "name": "model_run", "dur": 5})
    linear, conv, moved = merge(events, model, runs=3)
    assert (linear.part, linear.flops, linear.seconds) == ("visual encoder", 2 * 10 * 6 * 4, pytest.approx(200e-6))
    assert linear.bytes_moved == 4 * (40 + 24 + 60)
    # Fused with the activation and laid out anew, so named after the value that comes out.
    assert (conv.part, conv.flops, conv.seconds) == ("decoders", 2 * 120 * 9, pytest.approx(400e-6))
    assert conv.bytes_moved == 4 * (60 + 18 + 120)
    assert (moved.part, moved.flops) == (MOVED, 0)
    parts = grouped([linear, conv, moved], lambda layer: layer.part)
    assert list(parts) == ["decoders", "visual encoder", MOVED]
    assert parts["decoders"]["seconds"] == pytest.approx(400e-6)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "wanted"),
    [
        ("FusedGemm", [(5, 4), (4, 3), (3,)], (5, 3), 2 * 5 * 3 * 4),
        ("QLinearConv", [(1, 8, 4, 4), (), (), (6, 8, 3, 3)], (1, 6, 4, 4), 2 * 96 * 72),
        ("DynamicQuantizeMatMul", [(5, 4), (4, 3)], (5, 3), 120),
        ("Softmax", [(5, 4)], (5, 4), 0),
        ("Anything", [(5, 4), (4, 3)], (5, 3), 0),
    ],
)
def test_products_by_hand(operator, inputs, output, wanted):
    assert products(operator, inputs, [output]) == wanted


def test_the_command(make_toy_engine, tmp_path, capsys):
    clip = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
    engine = make_toy_engine(clip, AudioSpec(slices=9, height=12, width=20))
    output = tmp_path / "layers.json"
    assert main(["benchmark", "layers", "--engine", str(engine), "--runs", "2", "-o", str(output)]) == 0
    report = json.loads(output.read_text())
    graph = report["graphs"]["window"]
    assert {row["operator"] for row in graph["layers"]} >= {"ReduceMean", "Mul"}
    assert sum(row["seconds"] for row in graph["layers"]) == pytest.approx(graph["kernel_seconds"])
    assert graph["kernel_seconds"] <= graph["wall_seconds"]
    assert capsys.readouterr().out == markdown(report) == output.with_suffix(".md").read_text()
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "drawn from layers.json" in output.with_suffix(".svg").read_text()


def test_no_engine_and_no_runs(tmp_path):
    assert main(["benchmark", "layers", "--engine", str(tmp_path / "none")]) == 4
    assert main(["benchmark", "layers", "--engine", str(tmp_path), "--runs", "0"]) == 2
