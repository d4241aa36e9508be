"""Where a video cuts, by PySceneDetect, frame by frame as they are decoded."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.raw_inputs import Picture, YuvPicture

_WIDE = 160  # pixels, about, of the pictures that are compared
_LEAST_SECONDS = 0.6  # of a shot


class CutFinder(Protocol):
    """Tells where shots begin."""

    def push(self, picture: Picture) -> list[int]:
        """The next frame in; numbers of frames that begin a shot out, some frames later."""
        ...


class SceneCuts:
    """PySceneDetect's adaptive detector: a frame that differs far more from the last than its neighbours do.

    Args:
        frame_rate_hz: of the video, about; a shot lasts at least 0.6 seconds.

    Raises:
        UnavailableError: PySceneDetect is not installed.
    """

    def __init__(self, frame_rate_hz: float) -> None:
        try:
            import scenedetect
        except ImportError as error:
            raise UnavailableError(
                "cuts are found by PySceneDetect, which is not installed: run `pip install 'dtfsal[reframe]'`"
            ) from error
        self._rate = float(min(max(frame_rate_hz, 1.0), 1000.0))
        self._timecode = scenedetect.FrameTimecode
        self._detector = scenedetect.AdaptiveDetector(min_scene_len=max(1, round(_LEAST_SECONDS * self._rate)))
        self._count = 0

    def push(self, picture: Picture) -> list[int]:
        """See `CutFinder`; the detector looks two frames ahead."""
        now = self._timecode(self._count, self._rate)
        self._count += 1
        return [int(cut.frame_num) for cut in self._detector.process_frame(now, thumbnail(picture))]


def thumbnail(picture: Picture) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8, about 160 pixels wide, blue first: every so many pixels of a picture, not averaged.

    Planes of luma and chroma are converted by the numbers of BT.601 whatever the source's: frames are only compared
    with each other.
    """
    if not isinstance(picture, YuvPicture):
        step = max(1, picture.shape[1] // _WIDE)
        return np.ascontiguousarray(picture[::step, ::step, ::-1])
    half = max(1, picture.y.shape[1] // (2 * _WIDE))
    blue, red = (plane[::half, ::half].astype(np.float32) - 128 for plane in (picture.u, picture.v))
    luma = picture.y[:: 2 * half, :: 2 * half].astype(np.float32)
    channels = luma + 1.772 * blue, luma - 0.344 * blue - 0.714 * red, luma + 1.402 * red
    return np.asarray(np.clip(np.stack(channels, axis=-1), 0, 255), np.uint8)
