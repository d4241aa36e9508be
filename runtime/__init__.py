"""Video and sound in, saliency out: decode, preprocess, predict, render.

    from dtfsal.runtime import SaliencyPredictor

    with SaliencyPredictor("engines/dtfsal") as predictor:
        for frame in predictor.predict_file("clip.mp4"):
            print(frame.time_seconds, frame.saliency_map.max())

Names load on first use, so that the import is quick. Nothing here needs PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfsal.engines.errors import (
        DtfsalError,
        EngineError,
        EngineMismatchError,
        OutputError,
        UnavailableError,
        UsageError,
    )
    from dtfsal.runtime.media.audio_reader import AudioReader
    from dtfsal.runtime.media.errors import MediaError
    from dtfsal.runtime.media.video import Frame, VideoInfo, VideoReader, probe
    from dtfsal.runtime.media.writer import VideoWriter
    from dtfsal.runtime.predict.maps import MapStatistics, map_statistics, normalise_map, resize_map, smooth_map
    from dtfsal.runtime.predict.prediction import Prediction, SaliencyFrame
    from dtfsal.runtime.predict.predictor import SaliencyPredictor
    from dtfsal.runtime.predict.stream import StreamCounts, StreamPredictor
    from dtfsal.runtime.sinks.render import grey_picture, jet_colours, overlay

__all__ = [
    "AudioReader",
    "DtfsalError",
    "EngineError",
    "EngineMismatchError",
    "Frame",
    "MapStatistics",
    "MediaError",
    "OutputError",
    "Prediction",
    "SaliencyFrame",
    "SaliencyPredictor",
    "StreamCounts",
    "StreamPredictor",
    "UnavailableError",
    "UsageError",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "grey_picture",
    "jet_colours",
    "map_statistics",
    "normalise_map",
    "overlay",
    "probe",
    "resize_map",
    "smooth_map",
]

_MODULES = {
    "dtfsal.engines.errors": (
        "DtfsalError",
        "EngineError",
        "EngineMismatchError",
        "OutputError",
        "UnavailableError",
        "UsageError",
    ),
    "dtfsal.runtime.media.audio_reader": ("AudioReader",),
    "dtfsal.runtime.media.errors": ("MediaError",),
    "dtfsal.runtime.media.video": ("Frame", "VideoInfo", "VideoReader", "probe"),
    "dtfsal.runtime.media.writer": ("VideoWriter",),
    "dtfsal.runtime.predict.maps": ("MapStatistics", "map_statistics", "normalise_map", "resize_map", "smooth_map"),
    "dtfsal.runtime.predict.prediction": ("Prediction", "SaliencyFrame"),
    "dtfsal.runtime.predict.predictor": ("SaliencyPredictor",),
    "dtfsal.runtime.predict.stream": ("StreamCounts", "StreamPredictor"),
    "dtfsal.runtime.sinks.render": ("grey_picture", "jet_colours", "overlay"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
