"""What every output shares: a sink is a context manager that gives a function to write frames with.

    with open_sink(path, context) as write:
        for frame in prediction:
            write(frame, rgb)

A clean exit puts the result in place under its final name; any exception leaves nothing there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.predict.maps import Normalisation
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.predict.stage_clock import StageClock

if TYPE_CHECKING:
    from dtfsal.runtime.media.video import VideoInfo

View = Literal["overlay", "saliency"]
MapSize = Literal["model", "source"]

# Takes a map and its frame in the source's size; the frame may be None for sinks that don't show it.
Write: TypeAlias = Callable[[SaliencyFrame, Rgb | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinkContext:
    """What a sink may know about the run.

    Attributes:
        source: the video that is predicted.
        model_name: name of the engine's model.
        model_size: (height, width) of the model's maps.
        clock: where a sink counts its time, as "render" and "encode".
        view: what pictures show; None for the kind's own: overlays in a video, maps in a folder of PNG frames.
        picture_normalisation: how maps are scaled for pictures.
        map_normalisation: how the maps that come are scaled already.
        map_size: the resolution of raw maps.
        notes: where a sink says what it could not do, a sentence each.
    """

    source: VideoInfo
    model_name: str
    model_size: tuple[int, int]
    clock: StageClock = dataclasses.field(default_factory=StageClock)
    view: View | None = None
    picture_normalisation: Normalisation = "max"
    map_normalisation: Normalisation = "none"
    map_size: MapSize = "model"
    notes: list[str] = dataclasses.field(default_factory=list)


OpenSink: TypeAlias = Callable[[Path, SinkContext], AbstractContextManager[Write]]
