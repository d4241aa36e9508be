"""Sound in: mono samples on the video's time line, in chunks, whatever the source's rate, channels and gaps."""

import os
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from dtfsal.runtime.media.container import MediaFile
from dtfsal.runtime.media.sound_line import Samples, SoundLine

CHUNK_SAMPLES = 16384  # at most at a time


class AudioReader:
    """Contiguous mono float32 chunks in [-1, 1] from video time 0 on, once.

    Sound that starts late is preceded by zeros, gaps are filled with zeros, overlaps and what lies before the first
    frame are cut, and sound that ends early just ends. Packets that cannot be decoded become zeros and count in
    `concealed_seconds`. A file without sound gives no chunk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate_hz: int = 16000,
        *,
        start_seconds: float,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: the video or sound file.
            sample_rate_hz: of the chunks.
            start_seconds: `VideoInfo.start_seconds`, the container time that is video time 0.
            video_stream: the number of the video stream that sets the clock; None for the main one.
            audio_stream: the number of the sound stream to read; None for the default one.

        Raises:
            MediaError: the file cannot be opened.
            UsageError: there is no such stream.
        """
        self._rate = sample_rate_hz
        self._start_seconds = start_seconds
        self.concealed_seconds = 0.0
        self._media = MediaFile(path, video_stream=video_stream, audio_stream=audio_stream)

    def __iter__(self) -> Iterator[Samples]:
        """Chunks from video time 0 on; a reader can be gone through once."""
        stream = self._media.audio
        if stream is None:
            return

        def concealed(packet: Any) -> None:
            self.concealed_seconds += float((packet.duration or 0) * stream.time_base)

        line = SoundLine(self._rate)
        for frame in self._media.decoded(stream, on_damage=concealed):
            time = None if frame.pts is None else float(frame.pts * frame.time_base) - self._start_seconds
            yield from _short(line.push(frame, time))
        yield from _short(line.flush())

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._media.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _short(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """Pieces of at most `CHUNK_SAMPLES`, each in memory of its own: a gap is one long view of a single zero."""
    for piece in pieces:
        for first in range(0, len(piece), CHUNK_SAMPLES):
            yield np.array(piece[first : first + CHUNK_SAMPLES])
