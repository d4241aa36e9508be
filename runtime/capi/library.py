"""The built library and its interface, which `include/dtfsal.h` describes."""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dtfsal.engines.errors import DtfsalError, EngineError, UnavailableError, UsageError
from dtfsal.engines.native.packaged import system_name
from dtfsal.runtime.capi.build import C_LIBRARY

OK, NO_MAP, END, REFUSED = 0, 1, 2, 3
BAD_ARGUMENT, BAD_ENGINE, UNAVAILABLE, BUSY, FINISHED, OUT_OF_MEMORY, ENGINE_FAILED = range(-1, -8, -1)
PIXEL_FORMATS = {"rgb24": 0, "bgr24": 1, "rgba": 2, "bgra": 3, "gray": 4, "nv12": 5, "yuv420p": 6}
MATRICES = {"bt601": 0, "bt709": 1, "bt2020": 4}
F32, S16 = 0, 1

_ONNXRUNTIME_FILES = {"darwin": "libonnxruntime*.dylib", "win32": "onnxruntime.dll"}.get(
    sys.platform, "libonnxruntime.so*"
)
_ERRORS: dict[int, type[DtfsalError]] = {
    BAD_ARGUMENT: UsageError,
    BUSY: UsageError,
    FINISHED: UsageError,
    UNAVAILABLE: UnavailableError,
}


class _Struct(ctypes.Structure):
    """A struct that begins with its size and has the header's `DTFSAL_..._INIT` values.

    Attributes:
        defaults: those that are not zero.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **{**self.defaults, **values})


LogFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
ProgressFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)


class Options(_Struct):
    """`dtfsal_options`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("frame_rate_hz", ctypes.c_double),
        ("use_sound", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("delay_seconds", ctypes.c_double),
        ("sound_wait_seconds", ctypes.c_double),
        ("max_ready", ctypes.c_int32),
        ("repeat_ends", ctypes.c_int32),
        ("backend", ctypes.c_char_p),
        ("backend_library", ctypes.c_char_p),
        ("device", ctypes.c_int32),
        ("skip_hashes", ctypes.c_int32),
        ("log", LogFunction),
        ("log_user_data", ctypes.c_void_p),
        ("trust_engine", ctypes.c_int32),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "use_sound": 1,
        "stride": 1,
        "delay_seconds": -1.0,
        "sound_wait_seconds": 1.0,
        "max_ready": 8,
    }


class Description(_Struct):
    """`dtfsal_description`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("map_width", "map_height", "clip_frames")),
        ("clip_rate_hz", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("hears", "sample_rate_hz")),
        ("delay_seconds", ctypes.c_double),
        *((name, ctypes.c_char_p) for name in ("model_name", "precision", "target", "weights", "backend")),
    )


class Frame(_Struct):
    """`dtfsal_frame`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("format", "width", "height")),
        ("planes", ctypes.c_void_p * 3),
        ("pitches", ctypes.c_int64 * 3),
        *((name, ctypes.c_int32) for name in ("matrix", "full_range")),
        ("pts_seconds", ctypes.c_double),
    )


class Audio(_Struct):
    """`dtfsal_audio`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("format", "channels", "sample_rate_hz")),
        ("samples", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("pts_seconds", ctypes.c_double),
    )
    defaults: ClassVar[Mapping[str, Any]] = {"channels": 1}


class Map(_Struct):
    """`dtfsal_map`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("width", "height")),
        ("data", ctypes.c_void_p),
        ("pitch", ctypes.c_int64),
        ("frame_index", ctypes.c_int64),
        ("pts_seconds", ctypes.c_double),
        ("interpolated", ctypes.c_int32),
    )


class Counts(_Struct):
    """`dtfsal_counts`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int64) for name in ("frames", "maps", "dropped_maps", "late_frames", "refused_frames")),
        *((name, ctypes.c_double) for name in ("filled_sound_seconds", "late_sound_seconds", "refused_sound_seconds")),
        ("missing_sound_maps", ctypes.c_int64),
        ("engine_seconds", ctypes.c_double),
    )


_HANDLE = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, ...]] = {  # the result's type, then the arguments'
    "dtfsal_version": (ctypes.c_uint32,),
    "dtfsal_status_text": (ctypes.c_char_p, ctypes.c_int),
    "dtfsal_open": (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(Options),
        ctypes.POINTER(_HANDLE),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ),
    "dtfsal_clone": (ctypes.c_int, _HANDLE, ctypes.POINTER(_HANDLE)),
    "dtfsal_close": (ctypes.c_int, _HANDLE),
    "dtfsal_message": (ctypes.c_size_t, _HANDLE, ctypes.c_char_p, ctypes.c_size_t),
    "dtfsal_describe": (ctypes.c_int, _HANDLE, ctypes.POINTER(Description)),
    "dtfsal_push_frame": (ctypes.c_int, _HANDLE, ctypes.POINTER(Frame)),
    "dtfsal_push_audio": (ctypes.c_int, _HANDLE, ctypes.POINTER(Audio)),
    "dtfsal_poll": (ctypes.c_int, _HANDLE, ctypes.POINTER(Map)),
    "dtfsal_finish": (ctypes.c_int, _HANDLE),
    "dtfsal_reset": (ctypes.c_int, _HANDLE),
    "dtfsal_get_counts": (ctypes.c_int, _HANDLE, ctypes.POINTER(Counts)),
    "dtfsal_predict": (
        ctypes.c_int,
        _HANDLE,
        ctypes.POINTER(Frame),
        ctypes.POINTER(Map),
        ctypes.c_int64,
        ctypes.POINTER(Audio),
        ProgressFunction,
        ctypes.c_void_p,
    ),
}


class NativeLibrary:
    """The functions of `dtfsal.h`, by their names.

    Args:
        path: of `libdtfsal.so`; by default the one that the environment variable DTFSAL_LIBRARY names, else the one in
            the user's cache, else the wheel's, else the system's.

    Raises:
        UnavailableError: it is not there, is not this library, or is one in the cache that somebody else could have
            written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        library = C_LIBRARY.load(_found() if path is None else path, _FUNCTIONS)
        for name in _FUNCTIONS:
            setattr(self, name.removeprefix("dtfsal_"), getattr(library, name))

    def __getattr__(self, name: str) -> Any:  # for type checkers: functions are set in __init__
        raise AttributeError(name)

    def check(self, status: int, message: str) -> int:
        """The status, if it is not an error.

        Raises:
            UsageError: arguments, or an order of calls, that cannot be.
            UnavailableError: what runs the engine is not there.
            EngineError: anything else.
        """
        if status >= 0:
            return status
        text = message or self.status_text(status).decode()
        raise _ERRORS.get(status, EngineError)(text)


def onnxruntime_library() -> str | None:
    """The library inside the Python package of ONNX Runtime, found without importing it; None where there is none."""
    spec = importlib.util.find_spec("onnxruntime")
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder, "capi").glob(_ONNXRUNTIME_FILES)):
            return str(file)
    return None


def _found() -> str:
    """The named, built or packaged library, else the system's; one that may not run is an error."""
    found = C_LIBRARY.locate()
    return str(found.path) if found else system_name(C_LIBRARY.library, C_LIBRARY.soversion)
