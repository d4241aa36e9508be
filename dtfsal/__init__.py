"""DTFSal: where people look in a video with sound.

    from dtfsal import SaliencyPredictor

    with SaliencyPredictor("lite.engine") as predictor:
        for frame in predictor.predict_file("clip.mp4"):
            print(frame.time_seconds, frame.saliency_map.max())

`StreamPredictor` follows a live stream, `open_engine` runs an engine on arrays, and `build_model` gives the PyTorch
model. Names load on first use, so that the import is quick; only `build_model` needs PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfsal.engines.opening import open_engine
    from dtfsal.runtime.predict.predictor import SaliencyPredictor
    from dtfsal.runtime.predict.stream import StreamPredictor
    from dtfsal.training.model.network import build_model

    __version__: str

__all__ = ["SaliencyPredictor", "StreamPredictor", "__version__", "build_model", "open_engine"]

_HOMES = {
    "SaliencyPredictor": "dtfsal.runtime.predict.predictor",
    "StreamPredictor": "dtfsal.runtime.predict.stream",
    "build_model": "dtfsal.training.model.network",
    "open_engine": "dtfsal.engines.opening",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("dtfsal")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
