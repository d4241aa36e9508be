"""The exported plugin node through the plugin's own program on the CPU, against ONNX's operator on the same inputs."""

import os
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dtfsal.engines.native.deform_conv.interface import (
    DeformConvCall,
    DeformConvLibrary,
    DeformConvSizes,
    aligned_empty,
)
from dtfsal.engines.native.projects import DEFORM_CONV
from dtfsal.export.graph.lowering import DEFORM_CONV_FORMS
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.inputs import synthetic_windows


@pytest.fixture(scope="module")
def host_library(tmp_path_factory):
    if not (shutil.which("cmake") and shutil.which("c++")) and not os.environ.get("DTFSAL_REQUIRE_COMPILERS"):
        pytest.skip("needs cmake and c++")
    return DeformConvLibrary(DEFORM_CONV.build_host(tmp_path_factory.mktemp("host")))


def values_of(graph, names):
    """What ONNX Runtime computes for values of a graph on a synthetic window, each as FP32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for number, name in enumerate(names):
        copy.graph.node.append(onnx.helper.make_node("Cast", [name], [f"seen.{number}"], to=onnx.TensorProto.FLOAT))
        copy.graph.output.append(onnx.helper.make_tensor_value_info(f"seen.{number}", onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (inputs,) = synthetic_windows(PRESETS["tiny"], 1)
    return session.run([f"seen.{number}" for number in range(len(names))], inputs)


def test_the_node_computes_what_onnx_says(graph_of, host_library):
    native = graph_of("tiny", "onnxruntime", "fp32")
    (standard,) = [node for node in native.graph.node if node.op_type == "DeformConv"]
    graph = graph_of("tiny", "tensorrt", "fp32")
    (node,) = [node for node in graph.graph.node if node.domain == "dtfsal"]
    x, offset, mask, expected = values_of(native, [standard.input[i] for i in (0, 2, 4)] + [standard.output[0]])
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    weight, bias = constants[node.input[1]], constants[node.input[3]]
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    sizes = DeformConvSizes(
        shape=x.shape,
        out_channels=weight.shape[0],
        kernel=weight.shape[1:3],
        stride=tuple(given["stride"]),
        padding=tuple(given["padding"]),
        dilation=tuple(given["dilation"]),
        groups=given["groups"],
        offset_groups=given["offset_groups"],
    )

    def placed(values):
        array = aligned_empty(values.shape, np.float32)
        array[...] = values
        return array

    arrays = {"x": x, "weight": weight, "offset": offset, "mask": mask, "bias": bias, "y": np.zeros_like(expected)}
    held = {name: placed(values) for name, values in arrays.items()}
    call = DeformConvCall(sizes=sizes, **{name: array.ctypes.data for name, array in held.items()})
    workspace = aligned_empty((host_library.workspace_bytes(call, multiprocessors=84),), np.uint8)
    host_library.run_on_host(
        DeformConvCall(sizes=sizes, **{n: a.ctypes.data for n, a in held.items()}, workspace=workspace.ctypes.data)
    )
    assert expected.std() > 0.1  # not degenerate
    # Two FP32 sums of 576 terms; the output's largest values are some tens.
    np.testing.assert_allclose(held["y"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


class OnePlugin(torch.nn.Module):
    """The plugin's node alone, its weight a parameter."""

    def __init__(self, *, bias, mask):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(5 * 4 * 3 * 3, dtype=torch.float32).reshape(5, 4, 3, 3))
        self.bias = torch.nn.Parameter(torch.zeros(5)) if bias else None
        self.mask = mask

    def forward(self, x, offset, mask):
        mask = mask if self.mask else None
        return DEFORM_CONV_FORMS["plugin"](x, offset, mask, self.weight, self.bias, padding=1, stride=2, dilation=1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_the_node_of_the_lowering_alone(bias, mask):
    """Its name, fields, inputs without holes, and the weight as a constant in the kernel's order."""
    inputs = (torch.zeros(2, 4, 7, 9), torch.zeros(2, 18, 4, 5), torch.zeros(2, 9, 4, 5))
    module = OnePlugin(bias=bias, mask=mask).eval()
    model = torch.onnx.export(module, inputs, dynamo=True, opset_version=23, verbose=False, optimize=True).model_proto
    (node,) = [node for node in model.graph.node if node.domain == "dtfsal"]
    assert node.op_type == "DeformConv2d"
    assert {entry.domain: entry.version for entry in model.opset_import}["dtfsal"] == 1
    assert {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute} == {
        "plugin_version": b"1",
        "plugin_namespace": b"dtfsal",
        "stride": [2, 2],
        "padding": [1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "offset_groups": 1,
    }
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    ranks |= {name: values.ndim for name, values in constants.items()}
    assert [ranks[name] for name in node.input] == [4, 4, 4] + [1] * bias + [4] * mask
    weight = module.weight.detach().numpy()
    assert np.array_equal(constants[node.input[1]], weight.transpose(0, 2, 3, 1))
    (shape,) = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.output]
    assert shape == [2, 5, 4, 5]
