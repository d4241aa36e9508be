"""A video predicted for a request: into a file, or line by line. Called in a job's thread."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from dtfsal.applications.server.jobs import Control
from dtfsal.applications.server.refusals import Refusal
from dtfsal.engines import Engine
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.predict.maps import Normalisation
from dtfsal.runtime.predict.prediction import Prediction, SaliencyFrame
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.sinks.base import SinkContext
from dtfsal.runtime.sinks.outputs import Kind, Output, write_outputs
from dtfsal.runtime.sinks.tables import table_row

Format = Literal["json", "ndjson", "npz", "overlay"]
# What is written to a file, and under which name's suffix.
FILES: dict[Format, tuple[Kind, str]] = {
    "json": ("json", "maps.json"),
    "npz": ("npz", "maps.npz"),
    "overlay": ("video", "overlay.mp4"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What a request asks for.

    Attributes:
        format: of the answer.
        stride: predict every stride-th frame and the last.
        normalisation: scale of the maps.
        max_seconds: a longer video is refused.
    """

    format: Format = "json"
    stride: int = 1
    normalisation: Normalisation = "none"
    max_seconds: float


def write_result(
    engine: Engine, control: Control, video: Path, result: Path, question: Question, on_frame: Callable[[], object]
) -> None:
    """Predict a video into a file, which is whole or not there.

    Args:
        engine: that predicts.
        control: checked at each frame.
        video: the video's file.
        result: the file to write.
        question: how.
        on_frame: called at each frame.

    Raises:
        Stopped: `control` was stopped.
        Refusal: the video is too long.
        DtfsalError: as the predictor and the sinks raise.
    """
    with _prediction(engine, video, question) as prediction:

        def passed(frame: SaliencyFrame) -> None:
            _go_on(control, frame, question)
            on_frame()

        output = Output(result, FILES[question.format][0])
        write_outputs(prediction, [output], _context(engine, prediction, question), on_frame=passed)


def write_lines(
    engine: Engine, control: Control, video: Path, question: Question, emit: Callable[[dict[str, Any]], None]
) -> None:
    """Predict a video, and emit what is known first, then a row for each frame, then a summary.

    Args:
        engine: that predicts.
        control: checked at each frame.
        video: the video's file.
        question: how.
        emit: takes each line; may wait.

    Raises:
        Stopped: `control` was stopped.
        Refusal: the video is too long.
        DtfsalError: as the predictor raises.
    """
    with _prediction(engine, video, question) as prediction:
        info = prediction.info
        assert info is not None, "a file is predicted"
        head = {
            "model": engine.manifest.model_name,
            "normalisation": question.normalisation,
            "source": {"width": info.width, "height": info.height, "duration_seconds": info.duration_seconds},
        }
        emit(head)
        for frame in prediction:
            _go_on(control, frame, question)
            emit(table_row(frame, info.height, info.width))
        if not prediction.frames:
            raise MediaError(f"{video} has no frame that can be decoded")
        emit({"summary": _summary(prediction, video)})


def as_line(value: dict[str, Any]) -> bytes:
    """A line of NDJSON."""
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _prediction(engine: Engine, video: Path, question: Question) -> Prediction:
    predictor = SaliencyPredictor(engine, stride=question.stride, normalisation=question.normalisation)
    prediction = predictor.predict_file(video)
    assert prediction.info is not None, "a file is predicted"
    seconds = prediction.info.duration_seconds
    if seconds is not None and seconds > question.max_seconds:
        prediction.close()
        raise _too_long(f"{seconds:.1f} s long", question)
    return prediction


def _go_on(control: Control, frame: SaliencyFrame, question: Question) -> None:
    control.check()
    if frame.time_seconds > question.max_seconds:  # a file need not say how long it is
        raise _too_long("longer than it says", question)


def _too_long(how: str, question: Question) -> Refusal:
    return Refusal(
        413, "too-long", f"the video is {how} and this server takes up to {question.max_seconds:g} s; send a part of it"
    )


def _context(engine: Engine, prediction: Prediction, question: Question) -> SinkContext:
    assert prediction.info is not None, "a file is predicted"
    clip = engine.manifest.clip
    return SinkContext(
        source=prediction.info,
        model_name=engine.manifest.model_name,
        model_size=(clip.height, clip.width),
        clock=prediction.clock,
        map_normalisation=question.normalisation,
    )


def _summary(prediction: Prediction, video: Path) -> dict[str, Any]:
    return {
        "frames": prediction.frames,
        "predicted_frames": prediction.predicted_frames,
        "concealed_frames": prediction.concealed_frames,
        "skipped_frames": prediction.skipped_frames,
        "sound": prediction.sound,
        "notes": [note.replace(str(video), "what was sent") for note in prediction.notes],
    }
