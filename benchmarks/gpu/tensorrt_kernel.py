"""The deformable convolution that ships with TensorRT, as an engine of one node, to measure ours against."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from dtfsal.engines.errors import EngineError
from dtfsal.engines.tensor_rt.log import make_logger
from dtfsal.export.tensor_rt.builder import build_tensorrt
from dtfsal.export.tensor_rt.flavours import check_machine

TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16}


def one_node_graph(
    shape: tuple[int, int, int, int], weight: Tensor, bias: Tensor, *, kernel: tuple[int, int] = (3, 3)
) -> onnx.ModelProto:
    """x, offset and mask to y through ONNX's DeformConv with padding 1; its weight and bias are constants.

    Args:
        shape: of x, (N, C, H, W); y has the same plane.
        weight: (C', C, kh, kw).
        bias: (C',).
        kernel: (kh, kw).
    """
    kind, taps = TYPES[weight.dtype], kernel[0] * kernel[1]
    batch, _, height, width = shape
    sizes = {"x": shape, "offset": (batch, 2 * taps, height, width), "mask": (batch, taps, height, width)}
    constants = {
        name: numpy_helper.from_array(tensor.float().cpu().numpy(), name)
        for name, tensor in (("weight32", weight), ("bias32", bias))
    }
    nodes = [
        helper.make_node("Cast", ["weight32"], ["weight"], to=kind),
        helper.make_node("Cast", ["bias32"], ["bias"], to=kind),
        helper.make_node(
            "DeformConv",
            ["x", "weight", "offset", "bias", "mask"],
            ["y"],
            kernel_shape=list(kernel),
            pads=[1, 1, 1, 1],
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "deform_conv",
        [helper.make_tensor_value_info(name, kind, size) for name, size in sizes.items()],
        [helper.make_tensor_value_info("y", kind, (batch, weight.shape[0], height, width))],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def tensorrts_own(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """TensorRT's own kernel on PyTorch's current stream: its plugin ModulatedDeformConv2d, which its parser takes.

    Raises:
        UnavailableError: TensorRT is not installed.
        EngineError: it cannot build or run the graph.
    """
    trt: Any = check_machine("tensorrt")
    log = make_logger(trt)
    trt.init_libnvinfer_plugins(log, "")
    batch, channels, height, width = x.shape
    model = one_node_graph((batch, channels, height, width), weight, bias)
    with tempfile.TemporaryDirectory() as folder:
        built = build_tensorrt(model, "tensorrt", Path(folder))
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(built.path.read_bytes())
    context = engine.create_execution_context() if engine is not None else None
    if context is None:
        raise EngineError(f"TensorRT cannot run its own deformable convolution: {log.last_error}")
    y = torch.empty((batch, weight.shape[0], height, width), device="cuda", dtype=x.dtype)
    tensors = {"x": x, "offset": offset, "mask": mask, "y": y}
    for name, tensor in tensors.items():
        context.set_tensor_address(name, tensor.data_ptr())
    held = (runtime, engine, tensors)

    def run() -> Tensor:
        assert held
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise EngineError(f"TensorRT's own deformable convolution did not run: {log.last_error}")
        return y

    return run
