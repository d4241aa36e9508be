"""Clips whose maps are known, and Debian's Chromium."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def write_frames():
    """Write frames as a lossless clip, so that the toy engine's maps are known; with a tone if it is asked for."""

    def write(path: Path, frames, fps=25, *, tone=False) -> Path:
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264rgb", rate=fps, options={"crf": "0", "preset": "ultrafast"})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "rgb24"
            sound = container.add_stream("pcm_s16le", rate=16000, layout="mono") if tone else None
            for index, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                frame.pts = index
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if sound is not None:
                samples = np.sin(np.arange(round(16000 * len(frames) / fps)) * 0.3)
                wave = av.AudioFrame.from_ndarray((9000 * samples).astype(np.int16)[None], format="s16", layout="mono")
                wave.sample_rate, wave.time_base, wave.pts = 16000, Fraction(1, 16000), 0
                container.mux(sound.encode(wave))
                container.mux(sound.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def spot_clip(tmp_path_factory, write_frames) -> Path:
    """25 frames of 40x24, black; from frame 10 on the left half is white. Its name is hostile."""
    frames = np.zeros((25, 24, 40, 3), np.uint8)
    frames[10:, :, :20] = 255
    return write_frames(tmp_path_factory.mktemp("spot") / "<img src=x onerror=alert(1)> & 'clip'.mkv", frames)
