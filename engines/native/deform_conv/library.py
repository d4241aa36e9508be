"""Where the built plugin library is, and its way into TensorRT's registry."""

import os
import threading
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native.builder import cached_library

LIBRARY_NAME = "libdtfsal_plugins.so"
PLUGIN_LIBRARY_VARIABLE = "DTFSAL_PLUGIN_LIBRARY"
PLUGIN = ("DeformConv2d", "1", "dtfsal")  # name, version, namespace
_BUILD = "build it with `python -m dtfsal.engines.native.deform_conv`"
# A registry keeps a library to the process's end, and registering it twice is an error: by registry and path.
_registered: dict[tuple[int, str], Any] = {}
_registering = threading.Lock()


def default_library() -> Path:
    """Where the library is built to if nothing else is said: in the user's cache folder."""
    return cached_library(LIBRARY_NAME)


def find_plugin_library() -> Path:
    """The built library: the one that DTFSAL_PLUGIN_LIBRARY names, else the one in the user's cache folder.

    Raises:
        UnavailableError: there is none.
    """
    if named := os.environ.get(PLUGIN_LIBRARY_VARIABLE):
        if not Path(named).is_file():
            raise UnavailableError(f"{PLUGIN_LIBRARY_VARIABLE} names {named}, which is not a file; {_BUILD}")
        return Path(named)
    library = default_library()
    if not library.is_file():
        raise UnavailableError(f"the TensorRT plugin is not built ({library} is not there): {_BUILD}")
    return library


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
        raise UnavailableError(f"the plugin library {path} is not there; {_BUILD}")
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
            raise EngineError(f"{path} is not a TensorRT plugin library of dtfsal; {_BUILD}")
        _registered[key] = handle
