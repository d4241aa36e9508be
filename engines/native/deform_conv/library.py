"""The way of the plugin library into TensorRT's registry."""

import threading
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native.projects import DEFORM_CONV

PLUGIN = ("DeformConv2d", "1", "dtfsal")  # name, version, namespace
# A registry keeps a library to the process's end, and registering it twice is an error: by registry and path.
_registered: dict[tuple[int, str], Any] = {}
_registering = threading.Lock()


def load_plugin_library(trt: Any, path: Path) -> None:
    """Register a library's plugins with TensorRT, once; needed before an engine that uses them is read or built.

    Args:
        trt: the module `tensorrt`, `tensorrt_lean` or `tensorrt_dispatch`.
        path: of the library.

    Raises:
        UnavailableError: there is no such file.
        EngineError: it is not a plugin library, or another version's plugin has the name already.
    """
    if not path.is_file():
        raise UnavailableError(f"the plugin library {path} is not there; {DEFORM_CONV.remedy}")
    registry = trt.get_plugin_registry()
    with _registering:
        key = (id(trt), str(path.resolve()))
        if key in _registered:
            return
        if registry.get_creator(*PLUGIN) is not None:
            return  # a library that came with another engine has registered the same plugin
        # None means any failure; otherwise only the first missing node would show that the file is not a library.
        handle = registry.load_library(str(path))
        if handle is None or registry.get_creator(*PLUGIN) is None:
            raise EngineError(f"{path} is not a TensorRT plugin library of dtfsal; {DEFORM_CONV.remedy}")
        _registered[key] = handle
