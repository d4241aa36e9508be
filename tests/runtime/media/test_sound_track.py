"""The sound beside a written video: copied where players play that, encoded anew where not."""

import av
import numpy as np
import pytest

from dtfsal.runtime.media import sound_track
from dtfsal.runtime.media.video import VideoReader, probe
from dtfsal.runtime.media.writer import VideoWriter


def tone(seconds, rate=48000, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def copy(source, path):
    with VideoReader(source) as reader:
        info = reader.info
        video = VideoWriter(path, width=info.width, height=info.height, source=info, sound_from=source)
        with video as writer:
            for frame in reader:
                writer.write(frame.rgb, frame.time_seconds)
    return video.notes


def sound_of(path):
    """(codec, rate, samples by time) as players decode it: by timestamps, from the first frame of the picture on."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        video = next(container.decode(video=0))
        start = float(video.pts * video.time_base)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        line = np.zeros(10 * rate, np.float32)
        for frame in container.decode(stream):
            samples = frame.to_ndarray().astype(np.float32)
            if frame.format.name.startswith("s16"):
                samples /= 32768
            elif frame.format.name.startswith("s32"):
                samples /= 2**31
            at = round((float(frame.pts * frame.time_base) - start) * rate)
            mono = samples.reshape(-1, frame.layout.nb_channels)[:, 0] if not frame.format.is_planar else samples[0]
            line[max(0, at) : at + len(mono)] = mono[max(0, -at) :]
        return stream.codec_context.name, rate, line


def beep_start(path):
    _, rate, line = sound_of(path)
    return np.argmax(np.abs(line) > 0.2) / rate


def beep(rate):
    """Half a second of silence, then 0.3 s of a tone."""
    return np.concatenate((np.zeros(rate // 2, np.float32), tone(0.3, rate)))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("source", "codec", "rate", "copied_to"),
    [
        ("a.mp4", "aac", 48000, {"mp4", "mkv", "mov"}),
        ("a.mkv", "libopus", 48000, {"mkv"}),
        ("a.mkv", "flac", 44100, {"mkv"}),
        ("a.mov", "pcm_s24le", 48000, {"mkv", "mov"}),
        ("a.mkv", "pcm_s16le", 192000, {"mkv", "mov"}),
        ("a.avi", "pcm_u8", 11024, set()),
        ("a.mkv", "pcm_s16le", 96000, {"mkv", "mov"}),
        ("a.mkv", "pcm_s16le", 6000, {"mkv", "mov"}),
    ],
)
def test_a_sound_reaches_each_container_in_a_form_that_is_played(
    clip, tmp_path, source, codec, rate, copied_to, suffix
):
    made = clip(source, count=30, samples=beep(rate), rate=rate, audio_codec=codec)
    path = tmp_path / f"out.{suffix}"
    assert copy(made, path) == []
    name, written_rate, line = sound_of(path)
    if suffix in copied_to:
        assert name == probe(made).audio_codec
        assert written_rate == rate
    else:
        assert name == "aac"
        assert written_rate in sound_track.AAC_RATES_HZ
    assert beep_start(path) == pytest.approx(0.5, abs=0.02)
    heard = line[round(0.6 * written_rate) : round(0.7 * written_rate)]
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)  # as loud as the source


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_gap_in_the_sound_stays_as_long(tmp_path, clip, suffix):
    """PCM packets from 0.1 to 0.3 s are missing; what follows is not early."""
    picture = clip("picture.mkv", count=30)
    gapped, path = tmp_path / "gap.mkv", tmp_path / f"out.{suffix}"
    with av.open(str(picture)) as before, av.open(str(gapped), "w") as after:
        video = after.add_stream_from_template(before.streams.video[0])
        audio = after.add_stream("pcm_s16le", rate=16000, layout="mono")
        for packet in before.demux():
            if packet.size:
                packet.stream = video
                after.mux(packet)
        for first in range(0, 12800, 320):
            if not 1600 <= first < 4800:
                samples = (32767 * beep(16000)[first : first + 320]).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16000, first
                for packet in audio.encode(frame):
                    after.mux(packet)
    assert copy(gapped, path) == []
    assert sound_of(path)[0] == "aac"
    assert beep_start(path) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("shift", [-0.021, 0.0, 0.3])
def test_times_that_do_not_rise_at_a_join(clip, tmp_path, suffix, shift):
    """Two transport streams, one after the other, whose sounds overlap."""
    start = 1.2 + shift
    first = clip("1.ts", count=30, samples=tone(1.2, amplitude=0.01), options={"bf": "0"})
    second = clip("2.ts", count=30, samples=beep(48000), start=start, audio_start=start, options={"bf": "0"})
    joined, path = tmp_path / "joined.ts", tmp_path / f"out.{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert copy(joined, path) == []
    assert beep_start(path) == pytest.approx(beep_start(joined), abs=0.02)


@pytest.mark.parametrize("step", ["_encoded", "_copies_well"])
def test_a_sound_that_cannot_be_written_costs_no_frame(clip, tmp_path, monkeypatch, step):
    def fail(*_):
        raise av.error.InvalidDataError(1, "the sound is broken")

    source, path = clip("source.mkv", count=20, samples=tone(0.8), audio_codec="flac"), tmp_path / "out.mp4"
    monkeypatch.setattr(sound_track, step, fail)
    (note,) = copy(source, path)
    assert "the sound is broken" in note
    with VideoReader(path) as reader:
        assert len(list(reader)) == 20


def test_a_sound_that_breaks_on_the_way_costs_no_frame(clip, tmp_path, monkeypatch):
    source, path = clip("source.mp4", count=20, samples=tone(0.8)), tmp_path / "out.mp4"
    original = sound_track._copied

    def breaking(*arguments):
        packets = original(*arguments)
        yield next(packets)
        raise av.error.InvalidDataError(1, "the sound is broken")

    monkeypatch.setattr(sound_track, "_copied", breaking)
    (note,) = copy(source, path)
    assert "the sound is broken" in note
    with VideoReader(path) as reader:
        assert len(list(reader)) == 20


def test_a_container_that_refuses_the_sound_is_written_without_it(clip, tmp_path, monkeypatch):
    """The muxer has the last word: AAC at a rate that it does not have fails at the header."""
    source = clip("source.mkv", count=20, samples=tone(0.8, 8000), rate=8000, audio_codec="pcm_s16le")
    monkeypatch.setattr(sound_track, "AAC_RATES_HZ", (9999,))
    path = tmp_path / "out.mp4"
    (note,) = copy(source, path)
    assert "the sound could not be kept" in note
    with VideoReader(path) as reader:
        assert not reader.info.has_audio
        assert len(list(reader)) == 20
