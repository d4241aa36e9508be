"""The built library and its C interface, which `source/frontend.h` describes."""

import ctypes
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import EngineError, UsageError
from dtfsal.engines.native.projects import FRONT_END

NO_LIBRARY = "none"  # the variable's value that leaves the work to the CPU
CAPACITY, CUDA_ERROR = 5, 6  # of the statuses in kernels.h
TYPES = {"float32": 0, "float16": 1}


class FrameCall(ctypes.Structure):
    """`dtfsal_frame_call`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("format", "width", "height")),
        ("planes", ctypes.c_void_p * 3),
        ("pitches", ctypes.c_int64 * 3),
        *((name, ctypes.c_int32) for name in ("chroma_step", "matrix", "full_range")),
        *((name, ctypes.c_int32) for name in ("target_width", "target_height", "target_type")),
        *((name, ctypes.c_int32) for name in ("column_taps", "row_taps")),
        *((name, ctypes.c_void_p) for name in ("column_first", "column_weights", "row_first", "row_weights")),
        *((name, ctypes.c_void_p) for name in ("levels", "workspace", "target")),
    )


class SliceCall(ctypes.Structure):
    """`dtfsal_slice_call`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("samples", "frames", "window_length", "hop_length", "fft_length")),
        *((name, ctypes.c_int32) for name in ("bands", "target_width", "target_height", "target_type")),
        ("log_offset", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("sound", "window", "cosines", "filters", "workspace", "target")),
    )


class FrontEndLibrary:
    """A built library: the CUDA kernels', or the one that runs the same program on the CPU.

    Args:
        path: of the library.

    Raises:
        UnavailableError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        call = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._library = FRONT_END.load(
            path,
            {
                "dtfsal_frontend_message": (ctypes.c_char_p, ctypes.c_int),
                "dtfsal_resize_axis": (
                    *(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.c_int64),
                    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
                ),
                "dtfsal_prepare_frame": call,
                "dtfsal_prepare_slice": call,
            },
        )

    def resize_axis(self, source: int, target: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Where each of `target` pixels begins to read of `source` ones, (target,), and its weights, (target, taps).

        Raises:
            UsageError: a size is not possible.
        """
        taps = ctypes.c_int32()
        status = self._library.dtfsal_resize_axis(source, target, 0, None, None, ctypes.byref(taps))
        if status != CAPACITY:
            self._check(status)
        first, weights = np.empty(target, np.int32), np.empty((target, taps.value), np.int32)
        self._check(
            self._library.dtfsal_resize_axis(
                source, target, weights.size, first.ctypes.data, weights.ctypes.data, ctypes.byref(taps)
            )
        )
        return first, weights

    def prepare_frame(self, call: FrameCall, stream: int) -> None:
        """Queue a frame on a stream.

        Raises:
            UsageError: the call cannot be.
            EngineError: the GPU refused it.
        """
        call.struct_size = ctypes.sizeof(call)
        self._check(self._library.dtfsal_prepare_frame(ctypes.byref(call), stream))

    def prepare_slice(self, call: SliceCall, stream: int) -> None:
        """Queue a slice of sound on a stream; as `prepare_frame` otherwise."""
        call.struct_size = ctypes.sizeof(call)
        self._check(self._library.dtfsal_prepare_slice(ctypes.byref(call), stream))

    def _check(self, status: int) -> None:
        if status:
            message = f"the front-end cannot do this: {self._library.dtfsal_frontend_message(status).decode()}"
            raise EngineError(message) if status == CUDA_ERROR else UsageError(message)


def installed_front_end() -> FrontEndLibrary | None:
    """The built library, or None where there is none and none is named, or DTFSAL_FRONT_END_LIBRARY is "none".

    Raises:
        UnavailableError: DTFSAL_FRONT_END_LIBRARY names one that is not there or cannot be loaded.
    """
    if os.environ.get(FRONT_END.variable) == NO_LIBRARY:
        return None
    found = FRONT_END.locate()
    return FrontEndLibrary(found.path) if found else None
