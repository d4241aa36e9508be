"""Sound on the video's time line: late, early, gapped, at any rate, in any number of channels."""

import numpy as np
import pytest

from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import probe


def samples_of(path, rate=16000):
    with AudioReader(path, rate, start_seconds=probe(path).start_seconds) as reader:
        chunks = list(reader)
    assert all(chunk.dtype == np.float32 and chunk.ndim == 1 for chunk in chunks)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def tone(seconds, rate=48000, hertz=1000.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def first_loud(samples, rate=16000):
    return int(np.argmax(np.abs(samples) > 0.1)) / rate


# AAC spreads an edge over a block of 1,024 samples: 21 ms at 48 kHz.
AAC_BLOCK_SECONDS = 1024 / 48000


def test_length_and_level(clip):
    sound = samples_of(clip(samples=tone(1.0), audio_codec="pcm_s16le", name="a.mkv"))
    assert len(sound) == pytest.approx(16000, abs=40)  # the resampler's filter ends
    middle = sound[4000:12000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 16000 / len(middle) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_keeps_time(clip, rate):
    burst = np.concatenate((np.zeros(rate // 2, np.float32), tone(0.5, rate, 500.0)))
    sound = samples_of(clip("a.mkv", samples=burst, rate=rate, audio_codec="pcm_s16le"))
    assert first_loud(sound) == pytest.approx(0.5, abs=0.005)


def test_stereo_and_surround_become_mono(clip):
    for layout in ("stereo", "5.1"):
        sound = samples_of(clip(f"{layout}.mkv", samples=tone(0.5), layout=layout, audio_codec="pcm_s16le"))
        assert len(sound) == pytest.approx(8000, abs=40)
        assert np.abs(sound).max() <= 1


@pytest.mark.parametrize("start", [0.25, 1.0, 3.5])
def test_sound_that_starts_late_is_preceded_by_silence(clip, start):
    sound = samples_of(clip("late.mkv", count=50, samples=tone(0.5), audio_start=start))
    assert first_loud(sound) == pytest.approx(start, abs=AAC_BLOCK_SECONDS)
    assert (sound[: int((start - 0.05) * 16000)] == 0).all()
    assert len(sound) == pytest.approx((start + 0.5) * 16000, abs=2 * AAC_BLOCK_SECONDS * 16000)


def test_video_that_starts_late_cuts_the_sound_before_it(clip):
    burst = np.concatenate((np.zeros(48000, np.float32), tone(0.5)))
    sound = samples_of(clip("late.mkv", start=0.6, samples=burst))
    assert first_loud(sound) == pytest.approx(0.4, abs=AAC_BLOCK_SECONDS)


def test_sound_that_ends_early_just_ends(clip):
    assert len(samples_of(clip("short.mkv", count=50, samples=tone(0.5)))) < 10000


def test_no_sound_no_chunks(clip):
    assert len(samples_of(clip())) == 0


def test_the_real_clip(sample_clips):
    sound = samples_of(sample_clips / "bigbuckbunny.mp4")
    assert len(sound) / 16000 == pytest.approx(5.312, abs=0.01)
    assert 0.01 < np.abs(sound).max() <= 1


def test_a_lost_stretch_becomes_silence_of_its_length(clip, tmp_path):
    """Packets between 0.5 and 1.0 s removed: what comes after keeps its time."""
    import av

    marker = np.concatenate((tone(0.4), np.zeros(round(0.8 * 48000), np.float32), tone(0.4, hertz=2000)))
    source, path = clip("source.mkv", count=40, samples=marker), tmp_path / "gap.mkv"
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.audio[0])
        for packet in before.demux(before.streams.audio[0]):
            if packet.dts is not None and not 0.5 < packet.pts * packet.time_base < 1.0:
                packet.stream = stream
                after.mux(packet)
    whole, gapped = (np.concatenate(list(AudioReader(file, start_seconds=0.0))) for file in (source, path))
    assert len(gapped) == pytest.approx(len(whole), abs=40)
    assert (gapped[int(0.6 * 16000) : int(0.95 * 16000)] == 0).all()
    late = slice(int(1.1 * 16000), None)
    assert first_loud(gapped[late]) == pytest.approx(first_loud(whole[late]), abs=AAC_BLOCK_SECONDS)


def test_missing_file(tmp_path):
    with pytest.raises(MediaError, match="there is no file"):
        AudioReader(tmp_path / "none.wav", start_seconds=0)


def test_sound_that_is_no_number_is_silence(clip):
    samples = np.full(48000, 0.25, np.float32)
    samples[20000:20100], samples[30000], samples[40000] = np.nan, np.inf, 1e38
    path = clip("clip.mkv", count=25, samples=samples, audio_codec="pcm_f32le")
    with AudioReader(path, start_seconds=0.0) as reader:
        heard = np.concatenate(list(reader))
    assert len(heard) == 16000
    assert np.abs(heard).max() <= 1
    assert (np.abs(heard - 0.25) < 0.01).mean() > 0.95
    assert heard[6683] == 0  # the middle of what is no number
