"""Sound in: mono samples on the video's time line, in chunks, whatever the source's rate, channels and gaps."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.runtime.container import audio_stream, decoded, open_container

Samples = npt.NDArray[np.float32]

# Timestamps of a continuous sound jitter by their time base's steps; a jump beyond this is a gap or an overlap.
JUMP_SECONDS = 0.02
CHUNK_SAMPLES = 16384  # of silence at most at a time


class AudioReader:
    """Contiguous mono float32 chunks in [-1, 1] from video time 0 on, once.

    Sound that starts late is preceded by zeros, gaps are filled with zeros, overlaps and what lies before the first
    frame are cut, and sound that ends early just ends. Packets that cannot be decoded become zeros and count in
    `concealed_seconds`. A file without sound gives no chunk.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate_hz: int = 16000, *, start_seconds: float) -> None:
        """Open the file.

        Args:
            path: the video or sound file.
            sample_rate_hz: of the chunks.
            start_seconds: `VideoInfo.start_seconds`, the container time that is video time 0.

        Raises:
            MediaError: the file cannot be opened.
        """
        self._path = Path(path)
        self._rate = sample_rate_hz
        self._start_seconds = start_seconds
        self.concealed_seconds = 0.0
        self._container = open_container(self._path)

    def __iter__(self) -> Iterator[Samples]:
        """Chunks from video time 0 on; a reader can be gone through once."""
        stream = audio_stream(self._container)
        if stream is None:
            return
        position = 0  # samples given so far
        for first, samples in self._runs(self._container, stream):
            while position < first:
                silence = min(first - position, CHUNK_SAMPLES)
                yield np.zeros(silence, np.float32)
                position += silence
            rest = samples[max(0, position - first) :]
            if len(rest):
                yield rest
                position += len(rest)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _runs(self, container: Any, stream: Any) -> Iterator[tuple[int, Samples]]:
        """Resampled pieces with the number of their first sample on the video's line; numbers may jump."""
        resampler: Any = None
        expected = 0.0  # time at which the next frame continues the run
        at = 0

        def concealed(packet: Any) -> None:
            self.concealed_seconds += float((packet.duration or 0) * stream.time_base)

        for frame in decoded(container, stream, on_damage=concealed):
            time = expected if frame.pts is None else float(frame.pts * frame.time_base) - self._start_seconds
            if resampler is None or abs(time - expected) > JUMP_SECONDS:
                if resampler is not None:
                    for piece in _pieces(resampler, None):
                        yield at, piece
                        at += len(piece)
                resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
                at = round(time * self._rate)
                expected = time
            expected += frame.samples / frame.sample_rate
            frame.pts = None  # the resampler would fill gaps by its own rules
            try:
                pieces = _pieces(resampler, frame)
            except (av.error.FFmpegError, ValueError):  # the source changed its rate or layout: a new run
                resampler = None
                continue
            for piece in pieces:
                yield at, piece
                at += len(piece)
        if resampler is not None:
            for piece in _pieces(resampler, None):
                yield at, piece
                at += len(piece)


def _pieces(resampler: Any, frame: Any | None) -> list[Samples]:
    return [np.clip(piece.to_ndarray()[0], -1.0, 1.0).astype(np.float32) for piece in resampler.resample(frame)]
