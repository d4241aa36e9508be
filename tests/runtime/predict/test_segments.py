"""Segments of a video give the maps of the whole, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec, ClipSpec, open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.frame_index import SegmentError, index_frames
from dtfsal.runtime.media.video import VideoReader

CLIP = ClipSpec(frames=6, height=16, width=24, frame_rate_hz=25.0)
AUDIO = AudioSpec(slices=9, height=12, width=20)


def noise(seconds, rate):
    return (0.3 * np.random.default_rng(3).standard_normal(round(seconds * rate))).astype(np.float32)


def uneven(count):
    """Times at a rate that varies, with a gap."""
    steps = np.random.default_rng(7).choice([0.02, 0.04, 0.05, 0.11], count)
    steps[count // 2] = 0.9
    return np.cumsum(steps) - steps[0]


MEDIA = {
    "b-frames.mp4": {"count": 30, "samples": noise(1.3, 44100), "rate": 44100, "options": {"g": "8", "bf": "3"}},
    "open-gop.mkv": {"count": 30, "options": {"g": "6", "bf": "2", "x264-params": "open-gop=1"}},
    "variable.mp4": {"count": 26, "times": uneven(26), "samples": noise(2.0, 48000), "options": {"g": "7"}},
    "late.ts": {"count": 28, "start": 1.4, "samples": noise(0.7, 48000), "audio_start": 2.0, "options": {"g": "9"}},
    "lossless.mkv": {
        "count": 21,
        "codec": "ffv1",
        "pixel_format": "yuv420p",
        "samples": noise(1.5, 22050),
        "rate": 22050,
    },
    "one.mp4": {"count": 1},
}


@pytest.fixture(scope="module")
def media(tmp_path_factory, make_clip):
    folder = tmp_path_factory.mktemp("media")
    return {name: make_clip(folder / name, size=(32, 48), **what) for name, what in MEDIA.items()}


@pytest.fixture(scope="module")
def engine(make_toy_reuse_engine):
    folder = make_toy_reuse_engine(CLIP, AUDIO, weights=(0.1, 0.2, 0.3, 0.2, 0.1, 0.1))
    with open_engine(folder, device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def whole_maps(media, engine):
    made = {}

    def of(name, **options):
        key = name, *options.values()
        if key not in made:
            with SaliencyPredictor(engine, **options).predict_file(media[name]) as prediction:
                made[key] = [(f.index, f.time_seconds, f.saliency_map) for f in prediction]
        return made[key]

    return of


def in_segments(predictor, path, length):
    found = []
    for segment in predictor.segments(path, length):
        with predictor.predict_segment(path, segment) as prediction:
            found += [(f.index, f.time_seconds, f.saliency_map) for f in prediction]
    return found


@settings(max_examples=20)
@given(
    name=st.sampled_from(sorted(MEDIA)),
    length=st.integers(4, 34),
    stride=st.integers(1, 9),
    padding=st.sampled_from(["reverse", "repeat"]),
)
def test_segments_give_the_maps_of_the_whole(media, engine, whole_maps, name, length, stride, padding):
    predictor = SaliencyPredictor(engine, stride=stride, padding=padding)
    whole = whole_maps(name, stride=stride, padding=padding)
    parts = in_segments(predictor, media[name], length)
    assert [part[:2] for part in parts] == [one[:2] for one in whole]  # numbers and times, to the last bit
    for (index, _, part), (_, _, one) in zip(parts, whole, strict=True):
        assert np.array_equal(part, one), f"the maps of frame {index} differ"


def test_segments_of_one_frame(media, engine, whole_maps):
    predictor = SaliencyPredictor(engine, stride=2, padding="reverse")
    parts = in_segments(predictor, media["lossless.mkv"], 1)
    whole = whole_maps("lossless.mkv", stride=2, padding="reverse")
    assert all(np.array_equal(part[2], one[2]) for part, one in zip(parts, whole, strict=True))


def test_a_segment_reads_only_what_its_windows_hold(media, engine):
    segments = list(SaliencyPredictor(engine).segments(media["b-frames.mp4"], 10))
    assert [segment.frames for segment in segments] == [range(first, first + 10) for first in range(0, 30, 10)]
    for segment in segments[1:-1]:
        assert 10 <= len(segment.part.ticks) <= 10 + 2 * CLIP.frames
        assert len(segment.samples) <= 16000 * (10 / 25 + 2.2)


def test_the_index_has_the_frames_that_are_decoded(media):
    for path in media.values():
        with VideoReader(path) as reader:
            decoded = [frame.time_seconds for frame in reader]
        assert index_frames(path).seconds().tolist() == decoded


def test_damage_in_the_middle_is_told_and_not_predicted(engine, tmp_path, make_clip):
    def damage(number, payload):
        return payload[:8] + bytes(len(payload) - 8) if number == 13 else payload

    path = make_clip(tmp_path / "damaged.mkv", count=24, size=(32, 48), options={"g": "8", "bf": "0"}, damage=damage)
    with pytest.raises(SegmentError, match="predict it as a whole"):
        in_segments(SaliencyPredictor(engine), path, 8)


def test_a_refresh_that_is_spread_over_frames_is_exact_or_refused(engine, tmp_path, make_clip):
    options = {"g": "8", "bf": "0", "intra-refresh": "1"}
    path = make_clip(tmp_path / "refreshed.ts", count=24, size=(32, 48), options=options)
    predictor = SaliencyPredictor(engine)
    try:
        parts = in_segments(predictor, path, 8)
    except SegmentError:
        return
    with predictor.predict_file(path) as whole:
        assert all(np.array_equal(part[2], one.saliency_map) for part, one in zip(parts, whole, strict=True))


def test_what_tells_no_times_is_refused(engine, tmp_path, make_clip):
    path = make_clip(tmp_path / "clip.avi", count=10, codec="mpeg4")
    with pytest.raises(SegmentError, match="tells no times"):
        list(SaliencyPredictor(engine).segments(path, 4))
    assert issubclass(SegmentError, MediaError)


@pytest.mark.parametrize("length", [0, -1, 1.5, True])
def test_a_length_must_be_a_number_of_frames(media, engine, length):
    with pytest.raises(UsageError, match="frames_per_segment"):
        list(SaliencyPredictor(engine).segments(media["one.mp4"], length))
