"""The deformable convolution's CUDA kernel on a GPU: its errors against float64 and its time beside others'.

Shapes are the model's own (16 frames of 384 x 7 x 12) and a large one. Others: the plugin that ships with TensorRT,
torchvision's operator, and this project's standard-operator form through PyTorch, which gathers columns and multiplies.
"""

import dataclasses
import importlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtfsal.benchmarks.gpu.tensorrt_kernel import tensorrts_own
from dtfsal.benchmarks.measure.stopwatch import ReplayStopwatch, first_line
from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.native.deform_conv.interface import DataType, DeformConvCall, DeformConvLibrary, DeformConvSizes
from dtfsal.engines.native.projects import DEFORM_CONV
from dtfsal.training.model.deform_conv import deform_conv2d

SHAPES = (
    ((16, 384, 7, 12), 192),
    ((32, 256, 56, 96), 256),
)
NAMES: dict[DataType, str] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
CHECKED_IMAGES = 2  # of the batch, against float64


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A call's tensors on the GPU, as PyTorch has them."""

    x: Tensor
    offset: Tensor
    mask: Tensor
    weight: Tensor
    bias: Tensor


def kernels(*, runs: int) -> dict[str, Any]:
    """Measure every shape, type and kernel.

    Returns:
        `rows`, each with the median in microseconds (replayed from a CUDA graph, second-level cache cold), its ratio
        to our faster layout's, and the largest error against float64; `left_out`, why a kernel is missing.
    """
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    stopwatch = ReplayStopwatch()
    major, minor = torch.cuda.get_device_capability()
    with tempfile.TemporaryDirectory() as folder:
        library = DeformConvLibrary(DEFORM_CONV.build(Path(folder), architectures=(f"{major}{minor}",)))
        for shape, out_channels in SHAPES:
            for dtype in NAMES:
                inputs = _inputs(shape, out_channels, getattr(torch, dtype))
                expected = _expected(inputs)
                found: list[dict[str, Any]] = []
                for name, make in _candidates(library, inputs, dtype):
                    label = f"{name}, {NAMES[dtype]}, {'x'.join(map(str, shape))}"
                    try:
                        run = make()
                        error = float((run()[:CHECKED_IMAGES].double() - expected).abs().max())
                        times = stopwatch.seconds(run, runs=runs)
                    except (RuntimeError, DtfsalError) as problem:
                        left_out[label] = first_line(problem)
                        continue
                    found.append(
                        {
                            "shape": f"{'x'.join(map(str, shape))} -> {out_channels}",
                            "precision": NAMES[dtype],
                            "kernel": name,
                            "median_us": 1e6 * statistics.median(times),
                            "max_error": error,
                            "true_tflops": _flops(shape, out_channels) / statistics.median(times) / 1e12,
                        }
                    )
                ours = min((row["median_us"] for row in found if row["kernel"].startswith("ours")), default=None)
                rows += [{**row, "ratio_to_ours": None if ours is None else row["median_us"] / ours} for row in found]
                del inputs, expected
                torch.cuda.empty_cache()
    return {"rows": rows, "left_out": left_out}


def _inputs(shape: tuple[int, int, int, int], out_channels: int, dtype: torch.dtype) -> Inputs:
    batch, channels, height, width = shape
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device="cuda", generator=generator).to(dtype)

    return Inputs(
        normal(*shape),
        normal(batch, 18, height, width),
        normal(batch, 9, height, width).sigmoid(),
        normal(out_channels, channels, 3, 3) / (9 * channels) ** 0.5,
        normal(out_channels),
    )


def _expected(inputs: Inputs) -> Tensor:
    x, offset, mask = (tensor[:CHECKED_IMAGES].double() for tensor in (inputs.x, inputs.offset, inputs.mask))
    return deform_conv2d(x, offset, mask, inputs.weight.double(), inputs.bias.double(), padding=1)


def _candidates(
    library: DeformConvLibrary, inputs: Inputs, dtype: DataType
) -> Iterator[tuple[str, Callable[[], Callable[[], Tensor]]]]:
    yield "ours, channels last", lambda: _ours(library, inputs, dtype, "nhwc")
    yield "ours, NCHW", lambda: _ours(library, inputs, dtype, "nchw")
    i = inputs
    yield "TensorRT's own", lambda: tensorrts_own(i.x, i.offset, i.mask, i.weight, i.bias)
    yield "torchvision", lambda: _torchvision(inputs)
    yield (
        "gather and multiply",
        lambda: lambda: deform_conv2d(inputs.x, inputs.offset, inputs.mask, inputs.weight, inputs.bias, padding=1),
    )


def _ours(library: DeformConvLibrary, inputs: Inputs, dtype: DataType, layout: Any) -> Callable[[], Tensor]:
    batch, channels, height, width = inputs.x.shape
    sizes = DeformConvSizes(
        shape=(batch, channels, height, width),
        out_channels=inputs.weight.shape[0],
        kernel=(3, 3),
        padding=(1, 1),
        dtype=dtype,
        position_dtype=dtype,
        x_layout=layout,
        y_layout=layout,
    )
    last = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    x = inputs.x.contiguous(memory_format=last)
    weight = inputs.weight.permute(0, 2, 3, 1).contiguous()
    y = torch.empty((batch, weight.shape[0], height, width), device="cuda", dtype=x.dtype, memory_format=last)
    call = DeformConvCall(
        sizes=sizes,
        x=x.data_ptr(),
        weight=weight.data_ptr(),
        offset=inputs.offset.data_ptr(),
        mask=inputs.mask.data_ptr(),
        bias=inputs.bias.data_ptr(),
        y=y.data_ptr(),
    )
    workspace = torch.empty(library.workspace_bytes(call), dtype=torch.uint8, device="cuda")
    call = dataclasses.replace(call, workspace=workspace.data_ptr() if workspace.numel() else 0)
    held = (x, weight, workspace)  # the call has their addresses only

    def run() -> Tensor:
        assert held
        library.launch(call, torch.cuda.current_stream().cuda_stream)
        return y

    return run


def _torchvision(inputs: Inputs) -> Callable[[], Tensor]:
    try:  # by name: nothing here may need it
        operator = importlib.import_module("torchvision.ops").deform_conv2d
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(f"torchvision does not load: {first_line(error)}") from error
    i = inputs
    return lambda: operator(i.x, i.offset, i.weight, i.bias, padding=1, mask=i.mask)


def _flops(shape: tuple[int, int, int, int], out_channels: int) -> float:
    """Two for each multiply-accumulate of the product, and eight for each blended sample and channel."""
    batch, channels, height, width = shape
    samples = batch * height * width * 9 * channels
    return 2.0 * samples * out_channels + 8.0 * samples
