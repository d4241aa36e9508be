"""Costs of graphs by hand, and against the operators that PyTorch runs."""

import json

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from dtfsal.benchmarks.count.flops import PAPER_TABLE_2, count
from dtfsal.benchmarks.count.flops_report import draw, markdown
from dtfsal.benchmarks.count.graph_flops import activation_peak_bytes, by_part_and_kind, graph_cost, runs_in_a_window
from dtfsal.benchmarks.count.torch_operations import OtherOperations
from dtfsal.engines import read_bundle
from dtfsal.export.graph.costs import node_costs
from dtfsal.export.graph.operation_counts import other_operations
from dtfsal.runtime.cli import main


def as_array(value):
    """The array itself, or zeros of a shape."""
    return value if isinstance(value, np.ndarray) else np.zeros(value, np.float32)


def make_model(nodes, x, weights, y, axes=()):
    for number, node in enumerate(nodes):
        node.name = f"place/{node.op_type}.{number}"
    graph = helper.make_graph(
        nodes,
        "some",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(as_array(value), name) for name, value in weights.items()],
    )
    graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    onnx.checker.check_model(model)
    return model


def test_a_graph_by_hand():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),  # (10, 4) (4, 6): 240 multiply-accumulates
        helper.make_node("Relu", ["m"], ["r"]),  # 60
        helper.make_node("Softmax", ["r"], ["y"]),  # 5 * 60
    ]
    cost = graph_cost(node_costs(make_model(nodes, [10, 4], {"w": [4, 6]}, [10, 6])))
    assert cost.flops == {"matrix product": 480}
    assert cost.other_operations == 60 + 300
    assert cost.bytes_moved == 4 * ((40 + 24 + 60) + 2 * 60 + 2 * 60)
    assert cost.intensity == pytest.approx((480 + 360) / cost.bytes_moved)


def test_the_peak_of_activations_by_hand():
    """x (40 values) and a (40) and b (80): x is the caller's and stays, a is gone once both that read it have."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),  # x, a: 80
        helper.make_node("Concat", ["a", "a"], ["b"], axis=0),  # x, a, b: 160
        helper.make_node("Relu", ["b"], ["c"]),  # x, b, c: 200
        helper.make_node("ReduceMean", ["c", "axes"], ["y"], keepdims=1),  # x, c, y: 124
    ]
    model = make_model(nodes, [10, 4], {}, [20, 1], axes=[1])
    assert activation_peak_bytes(model, node_costs(model)) == 4 * 200


def test_layers_by_hand():
    """A view moves nothing; the product and what follows it are two layers of one part."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("Sigmoid", ["r"], ["y"]),
    ]
    rows = by_part_and_kind(node_costs(make_model(nodes, [10, 4], {"w": [4, 6]}, [10, 6])))
    part = "final fusion, casts"
    assert [(row[0], row[1], row[2].total, row[2].bytes_moved) for row in rows] == [
        (part, "matrix product", 480, 4 * (40 + 24 + 60)),
        (part, "other", 60 + 4 * 60, 4 * (2 * 60 + 2 * 60)),
    ]


def test_a_quantised_graph_by_hand():
    """Weights are dequantised once, as the graph is loaded; readers take 8-bit values as they lie."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),  # 5 * 40
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),  # 2 * 40
        helper.make_node("DequantizeLinear", ["w", "step", "zero"], ["v"]),
        helper.make_node("Transpose", ["v"], ["u"]),
        helper.make_node("MatMul", ["d", "u"], ["y"]),
    ]
    weights = {"w": np.zeros((6, 4), np.int8), "step": np.array(0.1, np.float32), "zero": np.array(0, np.int8)}
    model = make_model(nodes, [10, 4], weights, [10, 6])
    costs = node_costs(model)
    cost = graph_cost(costs)
    assert cost.flops == {"matrix product": 480}
    assert cost.other_operations == 7 * 40
    assert cost.bytes_moved == (4 * 40 + 4 + 1 + 40) + (40 + 4 * 24 + 4 * 60)
    assert [c.bytes_moved for c in costs[2:4]] == [0, 0]
    # x in fp32, what is quantised of it as it goes in, and the result.
    assert activation_peak_bytes(model, costs) == 4 * 40 + 40 + 4 * 60


def test_how_often_graphs_run_for_a_window(lite_engine, toy_engine):
    manifest = read_bundle(lite_engine).manifest
    runs = {name: runs_in_a_window(manifest, name) for name in manifest.graphs}
    assert runs == {"frame": 8, "motion": 7, "decode": 1, "slice": 9, "sound": 1, "head": 1}
    assert runs_in_a_window(read_bundle(toy_engine).manifest, "window") == 1


CASES = {
    "layer norm": (lambda x: F.layer_norm(x, x.shape[-1:]), (3, 5, 8), 7 * 120),
    "gelu": (F.gelu, (3, 5), 5 * 15),
    "sigmoid": (torch.sigmoid, (3, 5), 4 * 15),
    "softmax": (lambda x: x.softmax(-1), (3, 5), 5 * 15),
    "mean": (lambda x: x.mean(dim=(2, 3)), (2, 3, 4, 5), 120),
    "resize": (lambda x: F.interpolate(x, size=(8, 10), mode="bilinear"), (1, 2, 4, 5), 9 * 160),
    "pool": (lambda x: F.max_pool2d(x, 2), (1, 2, 4, 6), 4 * 12),
    "average pool": (lambda x: F.avg_pool2d(x, 2), (1, 2, 4, 6), 4 * 12),
    "sum": (lambda x: (x * 2).sum(dim=1), (3, 5), 2 * 15),
    "relu6": (F.relu6, (3, 5), 2 * 15),
    "bias": (lambda x: F.conv2d(x, torch.zeros(7, 2, 1, 1), torch.zeros(7)), (1, 2, 4, 5), 140),
    "views": (lambda x: x.transpose(0, 1).reshape(-1).flip(0), (3, 5), 0),
}


@pytest.mark.parametrize(("run", "shape", "wanted"), CASES.values(), ids=CASES)
def test_pytorchs_operators_by_hand(run, shape, wanted):
    x = torch.zeros(shape)
    with OtherOperations() as counter:
        run(x)
    assert counter.total == wanted, counter.by_operator


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "attributes", "wanted"),
    [
        ("DeformConv", [(2, 4, 5, 6), (8, 4, 3, 3)], (2, 8, 5, 6), {}, 8 * 2 * 4 * 9 * 30 + 2 * 8 * 30),
        ("Attention", [(1, 2, 10, 8), (1, 2, 7, 8), (1, 2, 7, 8)], (1, 2, 10, 8), {}, 5 * 2 * 10 * 7),
        ("Linear", [(1, 10, 4), (4, 6), (6,)], (1, 10, 6), {"gelu": 1}, 60 * 6),
        ("WinogradConv", [(1, 4, 8, 8), (6, 4, 3, 3), (6,)], (1, 6), {"activation": 2, "spatial_mean": 1}, 384 * 6),
        ("AveragePool", [(1, 2, 4, 6)], (1, 2, 2, 3), {"kernel_shape": [2, 2]}, 4 * 12),
        ("Transpose", [(2, 3)], (3, 2), {}, 0),
    ],
)
def test_operators_by_hand(operator, inputs, output, attributes, wanted):
    assert other_operations(operator, inputs, output, attributes) == wanted


def test_other_arithmetic_is_little_and_mostly_the_softmax():
    """Five operations for each of MViTv2's scores, of which block 0 of `dtfsal` alone has 115.7 million."""
    report = count("dtfsal")
    assert 5 * 86017 * 1345 < report.other_operations < 0.01 * report.total.true_flops


def test_table_2_is_the_papers():
    """Sizes in MB of fp32 weights, where the paper says parameters: 49.08 M are 187.2 MiB."""
    rows = {row.model: row for row in PAPER_TABLE_2}
    assert len(rows) == len(PAPER_TABLE_2) == 19
    assert rows["DTFSal"].size_mb == pytest.approx(49.08e6 * 4 / 2**20, rel=1e-3)
    assert rows["DTFSal(V)"].gflops == 259.57


def test_a_report_of_an_engine(tmp_path, capsys, make_toy_engine):
    from dtfsal.engines import AudioSpec, ClipSpec

    clip = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
    engine = make_toy_engine(clip, AudioSpec(slices=9, height=12, width=20))
    output = tmp_path / "flops.json"
    assert main(["benchmark", "flops", "--preset", "tiny", "--engine", str(engine), "-o", str(output)]) == 0
    report = json.loads(output.read_text())
    graph = report["engine"]["graphs"]["window"]
    assert graph["nodes"] > 5
    assert graph["total"] == sum(graph["flops"].values()) + graph["other_operations"] > 0
    assert sum(part["total"] for part in graph["parts"].values()) == graph["total"]
    assert sum(row["total"] for row in graph["layers"]) == graph["total"]
    assert report["rates"] is None
    eager = report["eager"]["parts"]
    for key in ("operations", "bytes_moved"):
        assert eager["total"][key] == sum(row[key] for name, row in eager.items() if name != "total")
    table = capsys.readouterr().out
    assert table == output.with_suffix(".md").read_text() == markdown(report)
    assert "Table 2" in table
    assert main(["benchmark", "flops", "--preset", "tiny", "--roofline"]) == 2


def test_the_roofline_by_hand():
    """Peak 100 GFLOP/s, 10 GB/s: the edge is at 10 operations for each byte; 4 are bound by memory, 40 are not."""

    def layer(part, kind, total, intensity):
        return {"part": part, "kind": kind, "total": total, "intensity": intensity}

    layers = [
        layer("encoder", "attention", 5e9, 4.0),
        layer("decoders", "convolution", 5e9, 40.0),
        layer("decoders", "other", 5.0, 0.1),  # too little to be drawn
    ]
    report = {
        "rates": {
            "matrix_product_gflop_per_second": 100.0,
            "copy_gb_per_second": 10.0,
            "processor_peak_gop_per_second": {"fp32": 150.0, "int8": 300.0},
        },
        "engine": {"engine": "e", "graphs": {"window": {"layers": layers}}},
        "machine": {"cpu": "a processor"},
        "threads": 2,
    }
    (axes,) = draw(report).axes
    points = [tuple(collection.get_offsets()[0]) for collection in axes.collections]
    assert points == [(4.0, 40.0), (40.0, 100.0)]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    roofs = ["matrix products and copies", "all that the cores can do"]
    assert legend == [*roofs, "encoder: 5 GFLOP", "decoders: 5 GFLOP", "attention", "convolution"]
    assert list(axes.lines[1].get_ydata()) == [150.0, 150.0]
    assert axes.lines[1].get_xdata()[0] == pytest.approx(15)
    report["rates"]["processor_peak_gop_per_second"] = None  # no compiler
    legend = [text.get_text() for text in draw(report).axes[0].get_legend().get_texts()]
    assert legend[:2] == ["matrix products and copies", "encoder: 5 GFLOP"]
