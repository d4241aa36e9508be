"""libdtfsal: the stream predictor for C and C++ programs, and a binding of it for Python.

The library's sources are here, its interface is `include/dtfsal.h`, and `dtfsal native build capi` builds and installs
it. In Python:

    from dtfsal.runtime.capi import NativePredictor

    with NativePredictor("engines/lite", frame_rate_hz=25) as predictor:
        predictor.push_frame(rgb, pts_seconds)
        frame = predictor.poll()
"""

from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.capi.predictor import NativePredictor

__all__ = ["C_LIBRARY", "NativePredictor"]
