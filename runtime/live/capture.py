"""Live sources: cameras, network streams and files at their own pace, pushed into a `StreamPredictor` by a thread."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import DtfsalError
from dtfsal.runtime.media import spool
from dtfsal.runtime.media.clock import FrameTimes
from dtfsal.runtime.media.container import MediaFile, check_readable, counts_slots, frame_interval, opened, why_no_frame
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.picture import Orientation, to_rgb
from dtfsal.runtime.predict.stream import StreamPredictor

# How long a network source may say nothing, in opening and in reading.
OPEN_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 10.0
_EARLY_PIECES = 1000  # of sound, kept until the first frame tells where time 0 is
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}

Rgb = npt.NDArray[np.uint8]
Heard = deque[tuple[npt.NDArray[np.float32], float, int]]  # samples (n, channels), their time and rate


class LiveSource:
    """A source that is opened, and then read by a thread of its own.

    Args:
        source: a camera's number or device ("0", "/dev/video0"), a URL that FFmpeg reads ("rtsp://..."), or a file,
            which is read at the pace of its timestamps.
        on_frame: called with each frame as it is displayed, (H, W, 3) uint8, its number among the accepted ones, and
            its time: 0 is the first frame's.
        video_stream: the number of the video stream to read; None for the main one.
        audio_stream: the number of the sound stream to read; None for the default one.

    Attributes:
        pixel_aspect: width and height of a frame's pixel, as a ratio; known as soon as there is a frame.
        error: what ended the reading, if it was an error.

    Raises:
        MediaError: it cannot be opened, or gives no video.
        UsageError: there is no such stream.
    """

    def __init__(
        self,
        source: str,
        on_frame: Callable[[Rgb, int, float], None] = lambda *_: None,
        *,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> None:
        self.source = source
        self.error: DtfsalError | None = None
        self.pixel_aspect = (1, 1)
        self._on_frame = on_frame
        self._stop = threading.Event()
        self._paced = False
        self._media = self._open({"video_stream": video_stream, "audio_stream": audio_stream})
        try:
            self._video = self._media.need_video()
        except BaseException:
            self._media.close()
            raise
        self._audio = self._media.audio
        self._thread: threading.Thread | None = None

    @property
    def frame_rate_hz(self) -> float:
        """What the source says of its rate."""
        return 1 / frame_interval(self._video)

    @property
    def clock_jumps(self) -> int:
        """How often so far the source's clock restarted or jumped, and was bridged."""
        return self._media.bridge.jumps

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
        self._media.close()

    def _open(self, streams: dict[str, int | None]) -> MediaFile:
        source = self.source
        camera = source.isdigit() or source.startswith("/dev/video")
        if not camera and ("://" not in source or Path(source).exists()):
            self._paced = True
            path = Path(source)
            check_readable(path)
            if not spool.is_pipe(path):
                return MediaFile(path, **streams)
            with spool.connected(path):  # a pipe may have no end, and live reads it once
                return MediaFile(path, container=opened(path), **streams)
        device = f"/dev/video{source}" if source.isdigit() and sys.platform == "linux" else source
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
        try:
            container = av.open(
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
        return MediaFile(source, container=container, **streams)

    def _run(self, stream: StreamPredictor) -> None:
        try:
            self._read(stream)
        except (av.error.FFmpegError, OSError) as error:
            if not self._stop.is_set():
                self.error = MediaError(
                    f"{self.source} ended unexpectedly ({getattr(error, 'strerror', None) or error})"
                )
        except DtfsalError as error:
            self.error = error
        except Exception as error:  # a thread's error must reach who waits for it
            self.error = MediaError(f"{self.source} could not be read on ({type(error).__name__}: {error})")
        finally:
            stream.finish()

    def _read(self, stream: StreamPredictor) -> None:
        container = self._media.container
        by_slot = counts_slots(container)
        times = FrameTimes(frame_interval(self._video), by_slot=by_slot)
        orientation: Orientation | None = None
        zero = 0.0  # where the container puts the first frame
        form: tuple[str, str, int] | None = None
        levels: Any = None
        heard: Heard = deque(maxlen=_EARLY_PIECES)
        started = time.monotonic()
        damaged = 0
        streams = [self._video] if self._audio is None else [self._video, self._audio]
        for packet in self._media.packets(*streams, raising=True):
            if self._stop.is_set():
                return
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError):
                damaged += 1
                continue  # what follows may be whole
            for frame in frames:
                if isinstance(frame, av.AudioFrame):
                    rate = frame.sample_rate
                    if form != (form := (frame.format.name, frame.layout.name, rate)):
                        # In one plane: PyAV finds a ninth where there are eight, somewhere in memory.
                        levels = av.AudioResampler(format="flt", layout=frame.layout, rate=rate)
                    at = None if frame.pts is None else float(frame.pts * frame.time_base)
                    frame.pts = None
                    for piece in levels.resample(frame):
                        samples = np.nan_to_num(piece.to_ndarray().reshape(-1, piece.layout.nb_channels))
                        heard.append((samples, time.monotonic() - started if at is None else at, rate))
                    if orientation is not None:
                        _push_sound(stream, heard, zero)
                    continue
                seconds = times.seconds(frame)
                if orientation is None:
                    orientation = Orientation.of(frame, bytes(packet))
                    self.pixel_aspect = orientation.displayed_aspect(self._video)
                    first = self._media.bridge.first_seconds(self._video.index) if by_slot else None
                    zero = times.start_seconds if first is None else first
                    started = time.monotonic()
                    _push_sound(stream, heard, zero)
                if self._paced and self._stop.wait(max(0.0, seconds - (time.monotonic() - started))):
                    return
                rgb = np.ascontiguousarray(orientation.apply(to_rgb(frame, self.source)))
                index = stream.counts.frames
                if stream.push_frame(rgb, seconds):
                    self._on_frame(rgb, index, seconds)
        if orientation is None and not self._stop.is_set():
            raise MediaError(why_no_frame(Path(self.source), self._video, damaged))


def _push_sound(stream: StreamPredictor, heard: Heard, zero: float) -> None:
    while heard:
        samples, seconds, rate = heard.popleft()
        stream.push_audio(samples, seconds - zero, rate)
