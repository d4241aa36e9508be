"""Custom operators for TensorRT: the library that has them, how it is built, found and registered.

python -m dtfsal.engines.native.deform_conv            builds it for this user (needs CMake, a C++ compiler and nvcc)
"""

from dtfsal.engines.native.deform_conv.build import build_plugin_library, tensorrt_headers
from dtfsal.engines.native.deform_conv.library import (
    LIBRARY_NAME,
    PLUGIN_LIBRARY_VARIABLE,
    default_library,
    find_plugin_library,
    load_plugin_library,
)

__all__ = [
    "LIBRARY_NAME",
    "PLUGIN_LIBRARY_VARIABLE",
    "build_plugin_library",
    "default_library",
    "find_plugin_library",
    "load_plugin_library",
    "tensorrt_headers",
]
