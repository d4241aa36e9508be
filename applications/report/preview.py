"""The clip as a page plays it, and where it is cut."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import Frame, VideoInfo, VideoReader
from dtfsal.runtime.media.writer import VideoWriter

LONG_SIDE, SHORT_SIDE = 640, 360  # pixels that a preview has at most
# Small, quick to write, and with a frame to jump to every second or so.
_OPTIONS = {"crf": "27", "preset": "veryfast", "g": "30"}
# PySceneDetect's own defaults: the mean change of hue, saturation and brightness, and the least frames of a shot.
_THRESHOLD, _LEAST_FRAMES = 27.0, 15
_CUT_STEP = 2  # every other row and column of the preview is enough to tell a cut


def preview_size(info: VideoInfo) -> tuple[int, int]:
    """The height and the width of a clip's preview, both even, with square pixels."""
    across, down = info.pixel_aspect
    width, height = info.width * across / down, float(info.height)
    scale = min(1.0, LONG_SIDE / max(width, height), SHORT_SIDE / min(width, height))
    rows, columns = (max(2, 2 * round(side * scale / 2)) for side in (height, width))
    return rows, columns


class CutFinder:
    """Finds cuts in frames that come one after another, by PySceneDetect's content detector.

    Attributes:
        available: whether PySceneDetect is installed; without it no cut is found.
        times: of the first frame of each shot but the first one, in seconds.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self._recent: dict[int, float] = {}
        self._detector: Any = None
        try:
            from scenedetect import FrameTimecode
            from scenedetect.detectors import ContentDetector
        except ImportError:  # OpenCV, too, may be absent
            self.available = False
            return
        self.available = True
        self._timecode = FrameTimecode
        self._detector = ContentDetector(threshold=_THRESHOLD, min_scene_len=_LEAST_FRAMES)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if self._detector is None:
            return
        # It counts frames, so that any rate does; a cut may be told of some frames after it came.
        self._recent[frame.index] = frame.time_seconds
        bgr = np.ascontiguousarray(frame.rgb[::_CUT_STEP, ::_CUT_STEP, ::-1])
        for cut in self._detector.process_frame(self._timecode(frame.index, 25.0), bgr):
            self.times.append(self._recent.get(cut.frame_num, frame.time_seconds))
        self._recent.pop(frame.index - 64 * _LEAST_FRAMES, None)


@contextlib.contextmanager
def preview(path: Path, info: VideoInfo, cuts: CutFinder, notes: list[str]) -> Iterator[Callable[[int], None]]:
    """Write a clip's preview: H.264 of the clip's times, and its sound.

    Args:
        path: of the preview, an MP4 file.
        info: the clip.
        cuts: is given its frames.
        notes: is given what could not be done.

    Yields:
        A function that writes the next frame, and checks that it has the number that it is given.
    """
    height, width = preview_size(info)
    square = dataclasses.replace(info, pixel_aspect=(1, 1))
    writer = VideoWriter(path, width=width, height=height, source=square, sound_from=Path(info.path), options=_OPTIONS)
    with VideoReader(info.path, size=(height, width), video_stream=info.video_stream) as reader, writer:
        frames = iter(reader)

        def write(index: int) -> None:
            frame = next(frames, None)
            if frame is None or frame.index != index:
                raise MediaError(
                    f"{info.path} gave other frames on the second read, so it has changed; run again when the file is "
                    "complete"
                )
            cuts.add(frame)
            writer.write(frame.rgb, frame.time_seconds)

        yield write
    notes.extend(writer.notes)
