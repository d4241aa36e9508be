"""Live sources: cameras, network streams and files at their own pace, pushed into a `StreamPredictor` by a thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.runtime.media.container import audio_stream, open_container, video_stream
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import FALLBACK_RATE_HZ, PLAUSIBLE_RATES_HZ
from dtfsal.runtime.predict.stream import StreamPredictor

# How long a network source may say nothing, in opening and in reading.
OPEN_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 10.0
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}

Rgb = npt.NDArray[np.uint8]


class LiveSource:
    """A source that is opened, and then read by a thread of its own.

    Args:
        source: a camera's number or device ("0", "/dev/video0"), a URL that FFmpeg reads ("rtsp://..."), or a file,
            which is read at the pace of its timestamps.
        on_frame: called with each frame, (H, W, 3) uint8, its number among the accepted ones, and its time.

    Raises:
        MediaError: it cannot be opened, or gives no video.
    """

    def __init__(self, source: str, on_frame: Callable[[Rgb, int, float], None] = lambda *_: None) -> None:
        self.source = source
        self.error: MediaError | None = None
        self._on_frame = on_frame
        self._stop = threading.Event()
        self._paced = False
        self._container = self._open()
        try:
            self._video = video_stream(self._container, Path(source))
            self._audio = audio_stream(self._container)
        except BaseException:
            self._container.close()
            raise
        self._thread: threading.Thread | None = None

    @property
    def frame_rate_hz(self) -> float:
        """What the source says of its rate."""
        lowest, highest = PLAUSIBLE_RATES_HZ
        for rate in (self._video.average_rate, self._video.guessed_rate, self._video.base_rate):
            if rate and lowest <= rate <= highest:
                return float(rate)
        return FALLBACK_RATE_HZ

    @property
    def has_sound(self) -> bool:
        """Whether the source gives sound."""
        return self._audio is not None

    def start(self, stream: StreamPredictor) -> None:
        """Begin to push what comes into a stream, which is finished when the source ends."""
        self._thread = threading.Thread(target=self._run, args=(stream,), name="dtfsal-capture", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and close the source; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(READ_TIMEOUT_SECONDS + 1)
        self._container.close()

    def _open(self) -> Any:
        source = self.source
        camera = source.isdigit() or source.startswith("/dev/video")
        if not camera and "://" not in source:
            self._paced = True
            return open_container(Path(source))
        device = f"/dev/video{source}" if source.isdigit() and sys.platform == "linux" else source
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
        try:
            return av.open(
                device,
                format=_CAMERA_FORMATS.get(sys.platform) if camera else None,
                options=options,
                timeout=(OPEN_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            what = "camera" if camera else "stream"
            reason = getattr(error, "strerror", None) or str(error)
            hint = "check that it is plugged in and not in use" if camera else "check its address"
            raise MediaError(f"the {what} {source} cannot be opened ({reason}); {hint}") from error

    def _run(self, stream: StreamPredictor) -> None:
        try:
            self._read(stream)
        except (av.error.FFmpegError, OSError) as error:
            if not self._stop.is_set():
                self.error = MediaError(
                    f"{self.source} ended unexpectedly ({getattr(error, 'strerror', None) or error})"
                )
        except MediaError as error:
            self.error = error
        finally:
            stream.finish()

    def _read(self, stream: StreamPredictor) -> None:
        streams = [self._video] if self._audio is None else [self._video, self._audio]
        planar: Any = None
        started = time.monotonic()
        first: float | None = None
        for packet in self._container.demux(streams):
            if self._stop.is_set():
                return
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError):
                continue  # a damaged packet; what follows may be whole
            for frame in frames:
                seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
                if seconds is None:
                    seconds = time.monotonic() - started
                first = seconds if first is None else first
                if isinstance(frame, av.AudioFrame):
                    rate = frame.sample_rate
                    planar = planar or av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                    frame.pts = None
                    for piece in planar.resample(frame):
                        stream.push_audio(piece.to_ndarray().T, seconds, rate)
                    continue
                if self._paced and self._stop.wait(max(0.0, seconds - first - (time.monotonic() - started))):
                    return
                rgb = frame.to_ndarray(format="rgb24")
                index = stream.counts.frames
                if stream.push_frame(rgb, seconds):
                    self._on_frame(rgb, index, seconds)
