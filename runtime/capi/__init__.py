"""libdtfsal: the stream predictor for C and C++ programs, and a binding of it for Python.

The library's sources are here, its interface is `include/dtfsal.h`, and `python -m dtfsal.runtime.capi` builds and
installs it. In Python:

    from dtfsal.runtime.capi import NativePredictor

    with NativePredictor("engines/lite", frame_rate_hz=25) as predictor:
        predictor.push_frame(rgb, pts_seconds)
        frame = predictor.poll()
"""

from dtfsal.runtime.capi.build import build_native_runtime, install_native_runtime
from dtfsal.runtime.capi.predictor import NativePredictor

__all__ = ["NativePredictor", "build_native_runtime", "install_native_runtime"]
