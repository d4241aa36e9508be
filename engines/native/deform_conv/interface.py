"""The deformable convolution's plain C interface, for tests and for callers that have arrays and no TensorRT.

`source/deform_conv.h` describes it. On a GPU, with any library whose arrays have an address there:

    kernel = DeformConvLibrary(DEFORM_CONV.find())
    call = DeformConvCall(x=x.data_ptr(), weight=..., offset=..., y=y.data_ptr(), sizes=sizes)
    workspace = torch.empty(kernel.workspace_bytes(call), dtype=torch.uint8, device="cuda")
    kernel.launch(dataclasses.replace(call, workspace=workspace.data_ptr()), stream)
"""

import ctypes
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import EngineError, UsageError
from dtfsal.engines.native.projects import DEFORM_CONV

DataType = Literal["float32", "float16", "bfloat16"]
Layout = Literal["nchw", "nhwc"]
DATA_TYPES: tuple[DataType, ...] = ("float32", "float16", "bfloat16")
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
ALIGNMENT = 16
CUDA_ERRORS = (6, 11, 12)  # CUDA_ERROR, UNSUPPORTED, NOT_BUILT_FOR of kernels.h; all others are the arguments' fault


class _Params(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("dtype", "position_dtype", "x_layout", "y_layout", "x_pitch", "y_pitch")),
        *((name, ctypes.c_int32) for name in ("batch", "channels", "height", "width")),
        *((name, ctypes.c_int32) for name in ("out_channels", "kernel_height", "kernel_width")),
        *((name, ctypes.c_int32 * 2) for name in ("stride", "padding", "dilation")),
        *((name, ctypes.c_int32) for name in ("groups", "offset_groups", "tile_n", "splits")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "offset", "mask", "bias", "y", "workspace")),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeformConvSizes:
    """Everything of a call but its arrays.

    Attributes:
        shape: of x, (N, C, H, W).
        out_channels: C'.
        kernel: (kh, kw).
        stride: of the output grid, (y, x).
        padding: zeros on each side, (y, x).
        dilation: spacing of the kernel's positions, (y, x).
        groups: of channels; each sees its own part of x.
        offset_groups: groups of x's channels with offsets of their own.
        dtype: of x, weight, bias and y; sums are float32.
        position_dtype: of offset and mask: `dtype`, or float32.
        x_layout: "nchw", or "nhwc" for channels last.
        y_layout: likewise.
        x_pitch: values from pixel to pixel of an x with channels last; 0 for C.
        y_pitch: likewise; 0 for C'.
        tile_n: output channels of a block: 64, 128, 192 or 256; 0 for the library's choice.
        splits: parts that the sum is split into, 1 to 16; 0 for the library's choice.
    """

    shape: tuple[int, int, int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    offset_groups: int = 1
    dtype: DataType = "float32"
    position_dtype: DataType = "float32"
    x_layout: Layout = "nchw"
    y_layout: Layout = "nchw"
    x_pitch: int = 0
    y_pitch: int = 0
    tile_n: int = 0
    splits: int = 0

    @property
    def output_size(self) -> tuple[int, int]:
        """(H', W')."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return height, width


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeformConvCall:
    """A call: sizes, and the addresses of contiguous arrays, each a multiple of 16.

    Attributes:
        sizes: of everything.
        x: (N, C, H, W), or (N, H, W, pitch).
        weight: (C', kh, kw, C / groups): channels last, unlike PyTorch's.
        offset: (N, 2 * offset_groups * kh * kw, H', W'), (y, x) in pixels.
        y: (N, C', H', W'), or (N, H', W', pitch).
        mask: (N, offset_groups * kh * kw, H', W'), or 0 for ones.
        bias: (C',), or 0 for zeros.
        workspace: as many bytes as `workspace_bytes` says, or 0 if it needs none.
    """

    sizes: DeformConvSizes
    x: int
    weight: int
    offset: int
    y: int
    mask: int = 0
    bias: int = 0
    workspace: int = 0


class DeformConvLibrary:
    """A built library: the CUDA kernel's, or the one that runs the same program on the CPU.

    Args:
        path: of the library.

    Raises:
        UnavailableError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self._library = DEFORM_CONV.load(path, {"dtfsal_deform_conv_message": (ctypes.c_char_p, ctypes.c_int)})

    def workspace_bytes(self, call: DeformConvCall, *, multiprocessors: int | None = None) -> int:
        """Bytes of workspace that the call needs.

        Args:
            call: its sizes count, its addresses do not.
            multiprocessors: of the GPU, for the library's choice of splits; None for the current one's.

        Raises:
            UsageError: the sizes cannot be.
        """
        count = self._library.dtfsal_deform_conv_multiprocessors() if multiprocessors is None else multiprocessors
        needed = ctypes.c_size_t(0)
        params = _params(call)
        self._check(self._library.dtfsal_deform_conv_workspace_bytes(ctypes.byref(params), count, ctypes.byref(needed)))
        return needed.value

    def launch(self, call: DeformConvCall, stream: int = 0) -> None:
        """Queue the convolution on a CUDA stream; addresses are the GPU's.

        Raises:
            UsageError: the call cannot be.
            EngineError: the GPU cannot run it.
        """
        params = _params(call)
        self._check(self._library.dtfsal_deform_conv_launch(ctypes.byref(params), ctypes.c_void_p(stream)))

    def run_on_host(self, call: DeformConvCall, *, multiprocessors: int = 84) -> None:
        """Run the kernel's program on the CPU, thread by thread; addresses are the host's.

        Raises:
            UsageError: the call cannot be.
        """
        params = _params(call)
        self._check(self._library.dtfsal_deform_conv_host(ctypes.byref(params), multiprocessors))

    def _check(self, status: int) -> None:
        if status == 0:
            return
        message = f"deformable convolution: {self._library.dtfsal_deform_conv_message(status).decode()}"
        raise EngineError(message) if status in CUDA_ERRORS else UsageError(message)


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """An uninitialised NumPy array at an address that the library takes."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(count + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + count].view(dtype).reshape(shape)


def _params(call: DeformConvCall) -> _Params:
    sizes = call.sizes
    batch, channels, height, width = sizes.shape
    pair = ctypes.c_int32 * 2
    return _Params(
        struct_size=ctypes.sizeof(_Params),
        dtype=DATA_TYPES.index(sizes.dtype),
        position_dtype=DATA_TYPES.index(sizes.position_dtype),
        x_layout=LAYOUTS.index(sizes.x_layout),
        y_layout=LAYOUTS.index(sizes.y_layout),
        x_pitch=sizes.x_pitch,
        y_pitch=sizes.y_pitch,
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        out_channels=sizes.out_channels,
        kernel_height=sizes.kernel[0],
        kernel_width=sizes.kernel[1],
        stride=pair(*sizes.stride),
        padding=pair(*sizes.padding),
        dilation=pair(*sizes.dilation),
        groups=sizes.groups,
        offset_groups=sizes.offset_groups,
        tile_n=sizes.tile_n,
        splits=sizes.splits,
        x=call.x,
        weight=call.weight,
        offset=call.offset,
        mask=call.mask or None,
        bias=call.bias or None,
        y=call.y,
        workspace=call.workspace or None,
    )
