"""Frames and sound to an engine's inputs on the GPU: the same numbers as the CPU's front-end, without its time.

python -m dtfsal.engines.native.frontend  builds the library for this user (needs CMake, a C++ compiler and nvcc)
"""

from dtfsal.engines.native.frontend.library import FRONT_END_LIBRARY_VARIABLE, FrontEndLibrary, find_front_end_library
from dtfsal.engines.native.frontend.prepare import FramePreparer, SlicePreparer

__all__ = [
    "FRONT_END_LIBRARY_VARIABLE",
    "FramePreparer",
    "FrontEndLibrary",
    "SlicePreparer",
    "find_front_end_library",
]
