"""A video in another shape, in two passes over the file: the first plans the crop, the second writes it.

    with SaliencyPredictor() as predictor:
        path = plan_file(predictor, "clip.mp4", ReframeSettings(aspect=9 / 16))
    with VideoReader("clip.mp4") as reader:
        write_video(reader, path, Path("out.mp4"), on_frame=lambda: None)

Memory does not grow with the video but for 36 bytes a frame: the path itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from dtfsal.applications.reframe.geometry import Framing
from dtfsal.applications.reframe.planner import CropPath, PathPlanner, ReframeSettings
from dtfsal.applications.reframe.shots import CutFinder, SceneCuts
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.prediction import Prediction
from dtfsal.runtime.predict.predictor import SaliencyPredictor


def plan_file(
    predictor: SaliencyPredictor,
    video: str | os.PathLike[str],
    settings: ReframeSettings,
    *,
    cuts: CutFinder | None = None,
    video_stream: int | None = None,
    audio_stream: int | None = None,
    on_begin: Callable[[Prediction], object] = lambda _prediction: None,
    on_frame: Callable[[], object] = lambda: None,
) -> CropPath:
    """Predict a video and plan its crop.

    Args:
        predictor: gives the maps.
        video: the file.
        settings: what is asked of the crop.
        cuts: what finds cuts; None for PySceneDetect.
        video_stream: the number of the video stream; None for the main one.
        audio_stream: the number of the sound stream to hear; None for the default one.
        on_begin: called with the prediction before its first map.
        on_frame: called after each frame.

    Raises:
        MediaError: the file cannot be read, or changes while it is.
        UnavailableError: PySceneDetect is not installed.
        UsageError: the aspect or a box does not fit the video.
    """
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video, video_stream=video_stream, audio_stream=audio_stream))
        info = reader.info
        framing = Framing.of(settings.aspect, info.width, info.height, info.pixel_aspect)
        for box in settings.keep:
            box.check(info.width, info.height, info.duration_seconds)
        finder = SceneCuts(1 / info.frame_interval_seconds) if cuts is None else cuts
        planner = PathPlanner(framing, settings)
        prediction = predictor.predict_file(video, video_stream=video_stream, audio_stream=audio_stream)
        stack.enter_context(prediction)
        on_begin(prediction)
        pictures = reader.pictures()
        for frame in prediction:
            picture = next(pictures, None)
            if picture is None or picture.index != frame.index:
                raise MediaError(f"{video} changed while it was read; run again when the file is complete")
            planner.add(frame.time_seconds, frame.saliency_map)
            for index in finder.push(picture.picture):
                planner.cut(index)
            on_frame()
        if not prediction.frames:
            raise MediaError(f"{video} has no frame that can be decoded")
        return planner.finish()
