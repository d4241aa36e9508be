"""Custom operators for TensorRT: how the library that has them is registered."""

from dtfsal.engines.native.deform_conv.library import load_plugin_library

__all__ = ["load_plugin_library"]
