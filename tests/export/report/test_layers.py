"""The layer report: its costs against the FLOP counter's, its findings against a real engine, its picture's colours."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from dtfsal.benchmarks.count.flops import count
from dtfsal.engines.errors import UsageError
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.costs import node_costs, totals, value_types
from dtfsal.export.report import __main__ as command
from dtfsal.export.report.layers import layer_report, read_report, with_profile
from dtfsal.export.report.picture import FUSED, KIND_COLOURS, NOT_FUSED, NOT_KNOWN, draw_report
from dtfsal.export.request import BuildRequest
from dtfsal.export.tensor_rt.schedule import Step


@pytest.fixture(scope="module")
def rtx_engine(tmp_path_factory):
    """The tiny preset's FP16 engine for TensorRT-RTX with its report."""
    pytest.importorskip("tensorrt_rtx")
    output = tmp_path_factory.mktemp("rtx") / "e"
    build_engine(BuildRequest(preset="tiny", output=output, target="tensorrt-rtx", precision="fp16", report=True))
    return output


def report_of(graph, steps=None, **changes):
    fields = {"model": "tiny", "target": "tensorrt-rtx", "precision": "fp16", "builder": "b 1", "evidence": "plan"}
    return layer_report(node_costs(graph), steps, **(fields | changes))


@pytest.mark.parametrize(("target", "precision"), [("onnxruntime", "fp32"), ("tensorrt", "fp16")])
def test_operations_are_those_that_the_counter_counts(graph_of, target, precision):
    """The counter goes by modules; the graph has the sound's resampling (0.3 %) and padded attention heads beside."""
    costs = node_costs(graph_of("tiny", target, precision))
    counted = count("tiny")
    padding = sum(
        2 * np.prod(cost.inputs[0][:3]) * cost.inputs[1][2] * (cost.inputs[2][3] - 16)
        for cost in costs
        if cost.kind == "attention" and cost.place.startswith("encoder")
    )
    assert sum(cost.flops for cost in costs) - padding == pytest.approx(counted.total.true_flops, rel=5e-3)
    table = totals(costs)
    assert sum(table["decoders"].values()) == pytest.approx(counted.parts["decoders"].true_flops, rel=5e-3)
    assert sum(table["sound encoder"].values()) == pytest.approx(counted.parts["audio"].true_flops, rel=5e-3)


def test_a_nodes_cost_in_closed_form(graph_of):
    costs = {cost.place: cost for cost in node_costs(graph_of("tiny", "tensorrt", "fp16")) if cost.flops}
    conv = costs["encoder.conv_proj"]  # (1, 3, 16, 96, 160) to (1, 16, 8, 24, 40), 3x7x7
    assert conv.flops == 2 * 16 * 8 * 24 * 40 * 3 * 3 * 7 * 7
    values = 3 * 16 * 96 * 160 + 16 * 3 * 3 * 7 * 7 + 16 + 16 * 8 * 24 * 40
    assert conv.bytes_moved == 2 * values
    pool = costs["encoder.blocks.0.attn.pool_k.pool"]
    assert (pool.kind, pool.groups, pool.strides, pool.output) == (
        "depthwise convolution",
        16,
        (1, 8, 8),
        (1, 16, 8, 3, 5),
    )
    assert pool.flops == 2 * 27 * 16 * 8 * 3 * 5
    deform = costs["fusion.adaptive_stream.conv"]
    assert (deform.kind, deform.output) == ("deformable convolution", (8, 32, 3, 5))
    assert deform.flops == 2 * 8 * 32 * 3 * 5 * 64 * 9


def test_the_plugins_output_has_a_type(graph_of):
    graph = graph_of("tiny", "tensorrt", "bf16")
    (node,) = [node for node in graph.graph.node if node.domain == "dtfsal"]
    kind = value_types(graph)[node.output[0]]
    assert kind.elem_type == onnx.TensorProto.BFLOAT16
    assert [size.dim_value for size in kind.shape.dim] == [8, 32, 3, 5]


def test_what_a_real_engine_fused(rtx_engine):
    report = read_report(rtx_engine / "report.json")
    assert report.evidence == "plan"
    by_place = {row.place: row for row in report.attentions}
    assert len(by_place) == 6
    # The builder has a kernel for all but the first block's head dimension and lengths.
    for place, row in by_place.items():
        kinds = [step.kind for step in report.steps if row.node in step.nodes]
        assert row.fused == (kinds.count("attention") == 1), place
        if not row.fused:
            assert {"matrix product", "fused product"} & set(kinds), place
    assert sum(row.fused for row in report.attentions) >= 5
    assert len(report.poolings) == 15
    for row in report.poolings:  # padded to two channels each by a step of their own
        assert row.kernels[-1] == row.node
        assert row.fused == (len(row.kernels) == 1)
    assert {row.place.split(".")[1] for row in report.decoders} == {"0", "1", "2", "3"}
    assert report.not_fused == [
        row.node for row in (*report.attentions, *report.poolings, *report.decoders) if not row.fused
    ]
    fields = json.loads((rtx_engine / "report.json").read_text())
    assert fields["total_flops"] == sum(sum(row.values()) for row in fields["flops"].values())
    assert fields["step_kinds"] == report.step_kinds
    assert "which kernel" in fields["not_known"][0]


def test_every_product_of_the_graph_is_in_a_step(rtx_engine, graph_of):
    """The schedule is whole: no convolution, matrix product or attention is missing in it."""
    report = read_report(rtx_engine / "report.json")
    computed = {node for step in report.steps for node in step.nodes}
    costs = node_costs(graph_of("tiny", "tensorrt-rtx", "fp16"))
    assert {cost.name for cost in costs if cost.flops} <= computed


def test_without_an_engines_steps_nothing_is_claimed(graph_of):
    report = report_of(graph_of("tiny", "tensorrt", "fp16"))
    assert report.evidence == "graph"
    assert {row.fused for row in (*report.attentions, *report.poolings, *report.decoders)} == {None}
    assert report.not_fused == []
    assert report.to_dict()["not_known"] == ["all of it"]


def test_an_attention_with_products_beside_its_kernel_is_not_fused(graph_of):
    graph = graph_of("tiny", "tensorrt", "fp16")
    (first, second, third, *_) = [node.name for node in graph.graph.node if node.op_type == "Attention"]
    steps = [
        Step("_gemm_mha_v2", "attention", (first,)),
        Step("prepare", "generated", (first, second)),
        Step("qk", "matrix product", (second,)),
        Step("_gemm_mha_v2", "attention", (second,)),
        Step("qk", "matrix product", (third,)),
    ]
    found = report_of(graph, steps).attentions
    assert [row.fused for row in found[:4]] == [True, False, False, None]
    assert found[0].kernels == ["_gemm_mha_v2", "prepare"]


def colours_of(picture: Image.Image):
    return {colour for _, colour in picture.getcolors(2**24)}


def test_the_picture_shows_each_state(rtx_engine, graph_of):
    picture = Image.open(rtx_engine / "report.png")
    assert picture.size[0] == 1500
    found = colours_of(picture)
    assert {FUSED, NOT_FUSED, KIND_COLOURS["attention"], KIND_COLOURS["convolution"]} <= found
    assert NOT_KNOWN not in found
    unknown = colours_of(draw_report(report_of(graph_of("tiny", "tensorrt", "fp16"))))
    assert NOT_KNOWN in unknown
    assert not {FUSED, NOT_FUSED} & unknown


def test_times_of_a_run_are_drawn(rtx_engine, tmp_path, capsys):
    report = read_report(rtx_engine / "report.json")
    profile = [{"count": 10}] + [{"name": step.name, "averageMs": 0.25} for step in report.steps]
    (tmp_path / "times.json").write_text(json.dumps(profile))
    arguments = [str(rtx_engine / "report.json"), "--times", str(tmp_path / "times.json"), "--output"]
    assert command.main([*arguments, str(tmp_path / "timed.png")]) == 0
    untimed = Image.open(rtx_engine / "report.png").convert("RGB")
    timed = Image.open(tmp_path / "timed.png").convert("RGB")
    assert timed.tobytes() != untimed.tobytes()
    assert all(step.milliseconds == 0.25 for step in with_profile(report, profile).steps)
    (tmp_path / "times.json").write_text("[]")
    assert command.main([*arguments, str(tmp_path / "none.png")]) == 4
    assert "it belongs to another engine" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": "tiny"}'])
def test_files_that_are_no_report(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="not a layer report"):
        read_report(path)
    assert command.main([str(path)]) == 2
