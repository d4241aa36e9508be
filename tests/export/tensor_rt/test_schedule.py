"""What an engine runs: read from the text in its file, from its inspector, and with the times of a profile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.export.tensor_rt.schedule import Step, steps_of_inspector, steps_of_plan, with_times

PLAN = (
    b"\x00\xffbinary\x00header {\n  version = 5\n}\n"
    b"\nmain {\n label bb123: \n"
    b'  signal={ name="entry" stream=0 event=5 layers="" }\n'
    b'  shape_call={ name="s" stream=0  layers="" subg_id=0 }\n'
    b"  function={ name=__myl_AddMul fqn=__myl_AddMul_0x1 kernel_kind=1 grid = { 9 1 1 } "
    b'layers="[ONNX Layer: encoder/Add.1]\x1f[ONNX Layer: encoder/Mul.2]" swap_ab=false }\n'
    b'  corrltn={ name="encoder.pool/Conv.3" nbr_groups=96 relu=false layers="[ONNX Layer: encoder.pool/Conv.3]" }\n'
    b"  function={ name=_gemm_mha_v2 fqn=_gemm_mha_v2_0x2 stream=0 "
    b'layers="[ONNX Layer: encoder.blocks.0.attn/Attention.4]" swap_ab=false }\n'
    b'  runtime_fusion={ name=__myl_FcAdd stream=0 layers="[ONNX Layer: a/MatMul.5]\x1f[ONNX Layer: a/Add.6]" '
    b"backbone=gemm }\n"
    b'  runtime_function={ name=__myl_Resi layers="[ONNX Layer: decoders.0/Resize.7]" swap_ab=false }\n'
    b'  wait={ name="w" stream=1 event=5 layers="" }\n'
    b"}\n\x00\x01code"
    b'\nmain {\n label bb1:\n  fully_connected={ name="a/MatMul.5" layers="[ONNX Layer: a/MatMul.5]" }\n'
    b'  add={ name="a/Add.6" layers="[ONNX Layer: a/Add.6]" }\n}\n\x00'
    b'\nmain {\n label bb1:\n  resize={ name="r" layers="[ONNX Layer: decoders.0/Resize.7]" }\n}\n'
    b'\nmain {\n label bb9:\n  fully_connected={ name="b/MatMul.8" layers="[ONNX Layer: b/MatMul.8]" }\n}\n'
)


def test_the_steps_of_a_plan(tmp_path):
    """In order, without what only synchronises, and without the bodies of fused steps; a second graph follows."""
    path = tmp_path / "model.engine"
    path.write_bytes(PLAN)
    assert steps_of_plan(path) == [
        Step("__myl_AddMul", "generated", ("encoder/Add.1", "encoder/Mul.2")),
        Step("encoder.pool/Conv.3", "convolution", ("encoder.pool/Conv.3",), groups=96),
        Step("_gemm_mha_v2", "attention", ("encoder.blocks.0.attn/Attention.4",)),
        Step("__myl_FcAdd", "fused product", ("a/MatMul.5", "a/Add.6")),
        Step("__myl_Resi", "resize", ("decoders.0/Resize.7",)),
        Step("b/MatMul.8", "matrix product", ("b/MatMul.8",)),
    ]


@settings(deadline=None, max_examples=50)
@given(noise=st.binary(min_size=1, max_size=300), cut=st.integers(0, len(PLAN)))
def test_anything_else_has_no_steps_or_whole_ones(tmp_path_factory, noise, cut):
    path = tmp_path_factory.mktemp("plan") / "p"
    path.write_bytes(noise)
    assert steps_of_plan(path) is None
    path.write_bytes(PLAN[:cut] + noise)
    assert all(step.name for step in steps_of_plan(path) or [])


def test_the_steps_of_an_inspector():
    """Layers as TensorRT 10 and 11 describe them in detail; the Metadata is the same text."""
    layers = [
        {
            "Name": "_gemm_mha_v2_myl0_3",
            "LayerType": "kgen",
            "Metadata": "[ONNX Layer: encoder.blocks.0.attn/Attention.4]",
        },
        {
            "Name": "__myl_AddMul_myl0_1",
            "LayerType": "kgen",
            "Metadata": "[ONNX Layer: a/Add.1]\x1e[ONNX Layer: a/Mul.2]",
        },
        {"Name": "b/MatMul.5_myl0_7", "LayerType": "gemm", "Metadata": "[ONNX Layer: b/MatMul.5]"},
        {"Name": "c/Conv.6", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: c/Conv.6]"},
        {"Name": "d/Attention.7", "LayerType": "Softmax", "Metadata": ""},
        {"Name": "e/DeformConv2d.8", "LayerType": "PluginV3", "Metadata": "[ONNX Layer: e/DeformConv2d.8]"},
        {"name": "without more"},
    ]
    found = steps_of_inspector(layers)
    kinds = ["attention", "generated", "matrix product", "convolution", "other", "plugin", "other"]
    assert [step.kind for step in found] == kinds
    assert found[1].nodes == ("a/Add.1", "a/Mul.2")
    assert found[6] == Step("without more", "other", ())


def test_times_are_matched_by_name():
    steps = [Step("a", "generated", ()), Step("b", "attention", ())]
    profile = [{"count": 100}, {"name": "b", "timeMs": 20.0, "averageMs": 0.2, "percentage": 40.0}]
    timed = with_times(steps, profile)
    assert [step.milliseconds for step in timed] == [None, 0.2]


@pytest.mark.parametrize("content", [b"", b"main {\n}"])
def test_a_file_without_a_schedule(tmp_path, content):
    path = tmp_path / "p"
    path.write_bytes(content)
    assert steps_of_plan(path) is None
