"""Frames and sound to an engine's inputs on the GPU: the same numbers as the CPU's front-end, without its time."""

from dtfsal.engines.native.frontend.library import FrontEndLibrary
from dtfsal.engines.native.frontend.prepare import FramePreparer, SlicePreparer

__all__ = ["FramePreparer", "FrontEndLibrary", "SlicePreparer"]
