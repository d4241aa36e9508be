"""A live stream gives the file predictor's maps, bit for bit, and what cannot be kept is counted and let go."""

import contextlib
import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec, ClipSpec, open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.runtime import SaliencyPredictor, StreamPredictor
from dtfsal.runtime.predict.stage_clock import StageClock

CLIP = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
AUDIO = AudioSpec(slices=9, height=12, width=20)
RATE = 16000


def make_video(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 30, 50, 3), dtype=np.uint8)


def make_sound(seconds, rate=RATE, seed=1):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(make_toy_engine):
    with open_engine(make_toy_engine(CLIP, AUDIO), device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def visual_engine(make_toy_engine):
    with open_engine(make_toy_engine(CLIP, None), device="cpu", threads=1) as engine:
        yield engine


def drain(stream):
    found = []
    while (frame := stream.poll()) is not None:
        found.append(frame)
    return found


def streamed(engine, video, sound=None, *, rate=RATE, fps=25.0, chunk=700, start=0.0, **options):
    """Maps of frames and sound pushed side by side in the order of their times."""
    options.setdefault("sound", sound is not None)
    with StreamPredictor(engine, frame_rate_hz=fps, **options) as stream:
        found, at = [], 0
        for index, rgb in enumerate(video):
            while sound is not None and at < len(sound) and at / rate <= index / fps:
                stream.push_audio(sound[at : at + chunk], start + at / rate, rate)
                at += chunk
            assert stream.push_frame(rgb, start + index / fps)
            found += drain(stream)
        while sound is not None and at < len(sound):
            stream.push_audio(sound[at : at + chunk], start + at / rate, rate)
            at += chunk
        stream.finish()
        found += drain(stream)
        assert stream.finished
        return found, stream.counts


def from_file(engine, video, sound=None, *, rate=RATE, fps=25.0, **options):
    predictor = SaliencyPredictor(engine, **options)
    given_sound = {} if sound is None else {"samples": sound, "sample_rate_hz": rate}
    with predictor.predict_frames(video, frame_rate_hz=fps, **given_sound) as prediction:
        return list(prediction)


def assert_same(found, wanted, start=0.0):
    assert [frame.index for frame in found] == [frame.index for frame in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.time_seconds == pytest.approx(theirs.time_seconds + start, abs=1e-9)
        np.testing.assert_array_equal(ours.saliency_map, theirs.saliency_map)


@pytest.mark.parametrize("fps", [8.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"padding": "repeat", "smoothing_sigma": 1.0}])
def test_a_stream_has_the_files_maps(engine, fps, options):
    video, sound = make_video(40), make_sound(40 / fps)
    found, counts = streamed(engine, video, sound, fps=fps, max_ready=100, **options)
    assert_same(found, from_file(engine, video, sound, fps=fps, **options))
    assert (counts.frames, counts.maps, counts.dropped_maps, counts.late_frames) == (40, 40, 0, 0)
    assert counts.missing_sound_windows == 0


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_sound_of_another_rate_is_resampled_as_a_files(engine, rate):
    video, sound = make_video(30), make_sound(1.2, rate)
    found, _ = streamed(engine, video, sound, rate=rate, chunk=1024, max_ready=100)
    assert_same(found, from_file(engine, video, sound, rate=rate))


def test_the_shipped_presets_stream_has_the_files_maps(lite_engine):
    video, sound = make_video(14), make_sound(0.56)
    with open_engine(lite_engine, device="cpu") as engine:
        found, _ = streamed(engine, video, sound)
        assert_same(found, from_file(engine, video, sound))


def test_a_clock_that_counts_from_1970(engine):
    """At 1.8e9 s a double is 2.4e-7 s coarse, so taps and slices stay where they are."""
    video, sound = make_video(20), make_sound(0.8)
    found, counts = streamed(engine, video, sound, start=1.8e9)
    wanted = from_file(engine, video, sound)
    assert counts.late_sound_seconds == counts.filled_sound_seconds == 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.time_seconds == pytest.approx(theirs.time_seconds + 1.8e9, abs=1e-6)
        np.testing.assert_array_equal(ours.saliency_map, theirs.saliency_map)


def test_times_are_those_of_the_streams_clock(engine):
    video, sound = make_video(10), make_sound(0.4)
    found, _ = streamed(engine, video, sound, start=1234.5)
    wanted = from_file(engine, video, sound)
    assert [frame.time_seconds for frame in found] == pytest.approx([w.time_seconds + 1234.5 for w in wanted])
    for ours, theirs in zip(found, wanted, strict=True):
        # times far from 0 are rounded in their last digits, so a sample may fall to its neighbour's number
        np.testing.assert_allclose(ours.saliency_map, theirs.saliency_map, atol=1e-3)


@given(count=st.integers(1, 12), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_in_which_things_come_does_not_matter(visual_engine, count, seed, data):
    video = make_video(count, seed)
    times = np.cumsum(data.draw(st.lists(st.floats(0.005, 0.2), min_size=count, max_size=count)))
    times -= times[0]
    with StreamPredictor(visual_engine, sound=False, frame_rate_hz=25, max_ready=100) as stream:
        found = []
        for rgb, time in zip(video, times, strict=True):
            stream.push_frame(rgb, time)
            if data.draw(st.booleans()):
                found += drain(stream)
        stream.finish()
        found += drain(stream)
    predictor = SaliencyPredictor(visual_engine)
    # the interval that the stream was told, not the median of these times
    stamped = predictor._timed(list(video), list(times), shrink=True)
    runner = predictor._runner_type(visual_engine)
    wanted = [
        frame
        for frame, _ in predictor._predict(runner, stamped, 1 / 25, iter(()), StageClock(), contextlib.ExitStack())
    ]
    assert_same(found, wanted)


@pytest.mark.parametrize("with_sound", [False, True])
def test_a_causal_map_is_the_last_of_the_stream_so_far(engine, with_sound):
    video = make_video(12)
    sound = make_sound(0.48) if with_sound else None
    with StreamPredictor(engine, frame_rate_hz=25, sound=with_sound, delay_seconds=0) as stream:
        assert stream.delay_seconds == 0
        for index, rgb in enumerate(video):
            heard = None
            if sound is not None:
                stream.push_audio(sound[index * 640 : (index + 1) * 640], index / 25, RATE)
                heard = sound[: (index + 1) * 640]
            stream.push_frame(rgb, index / 25)
            (frame,) = drain(stream)
            wanted = from_file(engine, video[: index + 1], heard)[-1]
            np.testing.assert_array_equal(frame.saliency_map, wanted.saliency_map)


def test_the_delay_is_what_the_window_needs(engine, visual_engine):
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False) as stream:
        assert stream.delay_seconds == pytest.approx(1 / 25)  # four frames, the third the target
        assert stream.push_frame(make_video(1)[0], 0.0)
        assert stream.poll() is None
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        # half of the nine slices' span, about the window's centre half a frame before the target
        middle = (8 * 0.11 + 0.655 - 0.02) / 2  # a slice of 64 STFT frames is 0.655 s
        assert stream.delay_seconds == pytest.approx(middle - 0.02 + 0.01, abs=0.08)


def test_sound_may_come_before_the_first_frame(engine):
    video, sound = make_video(20), make_sound(1.6)
    wanted, _ = streamed(engine, video, sound[:12800])
    with StreamPredictor(engine, frame_rate_hz=25, max_ready=100) as stream:
        stream.push_audio(make_sound(0.5, seed=3), 9.5, RATE)  # before the first frame's time: cut
        stream.push_audio(sound[:12800], 10.0, RATE)
        for index, rgb in enumerate(video):
            stream.push_frame(rgb, 10 + index / 25)
        stream.finish()
        found = drain(stream)
        assert stream.counts.late_sound_seconds == pytest.approx(0.5, abs=1e-3)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours.saliency_map, theirs.saliency_map)


def test_early_sound_does_not_pile_up(engine):
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        for second in range(60):
            stream.push_audio(np.zeros(RATE, np.float32), second, RATE)
        assert len(stream._early) <= 12
        assert stream.counts.late_sound_seconds >= 48
        for _ in range(60):
            stream.push_audio(np.zeros(RATE, np.float32), 60, RATE)
        assert len(stream._early) <= 20


def test_sound_far_ahead_of_the_frames_is_refused(engine):
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        stream.push_frame(make_video(1)[0], 0.0)
        assert stream.push_audio(np.zeros(RATE, np.float32), 23.9, RATE)
        assert not stream.push_audio(np.zeros(RATE, np.float32), 24.1, RATE)
        assert not stream.push_audio(np.zeros(RATE, np.float32), 1e9, RATE)
        assert stream.counts.refused_sound_seconds == 2


def test_a_pause_of_years_takes_no_memory(engine):
    """A camera that was asleep: silence of 10^12 samples is one number."""
    video, sound = make_video(30), make_sound(1.2)
    with StreamPredictor(engine, frame_rate_hz=25, max_ready=100, sound_wait_seconds=0) as stream:
        for start in (0.0, 9e7):
            for index, rgb in enumerate(video):
                assert stream.push_frame(rgb, start + index / 25)
            for at in range(0, len(sound), 640):
                assert stream.push_audio(sound[at : at + 640], start + at / RATE, RATE)
        assert stream.counts.filled_sound_seconds == pytest.approx(9e7 - 1.2)
        stream.finish()
        assert len(drain(stream)) == 60


def test_sound_that_nobody_polls_does_not_pile_up(engine):
    video, sound = make_video(1), make_sound(0.04)
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        for index in range(10000):
            stream.push_frame(video[0], index / 25)
            stream.push_audio(sound, index / 25, RATE)
        assert stream._backlog._held < 100 * RATE
        assert stream._backlog._forgotten + stream._backlog._held == 10000 * 640
        stream.finish()
        (frame, *_) = drain(stream)
    wanted, _ = streamed(engine, np.repeat(video, 100, axis=0), np.tile(sound, 100), max_ready=200)
    # the sound repeats each 0.04 s and its slices begin each 0.11 s: equal windows are 11 frames apart
    same = wanted[44 + (frame.index - 44) % 11]
    np.testing.assert_allclose(frame.saliency_map, same.saliency_map, atol=1e-6)


def test_a_gap_in_the_sound_is_silence(engine):
    video, sound = make_video(50), make_sound(2.0)
    gapped = sound.copy()
    gapped[8000:16000] = 0
    with StreamPredictor(engine, frame_rate_hz=25, max_ready=100) as stream:
        for index, rgb in enumerate(video):
            stream.push_frame(rgb, index / 25)
        stream.push_audio(sound[:8000], 0.0, RATE)
        stream.push_audio(sound[16000:], 1.0, RATE)
        stream.finish()
        assert stream.counts.filled_sound_seconds == pytest.approx(0.5)
        assert_same(drain(stream), from_file(engine, video, gapped))


def test_overlapping_sound_is_cut(engine):
    video, sound = make_video(50), make_sound(2.0)
    with StreamPredictor(engine, frame_rate_hz=25, max_ready=100) as stream:
        for index, rgb in enumerate(video):
            stream.push_frame(rgb, index / 25)
        stream.push_audio(sound[:16000], 0.0, RATE)
        stream.push_audio(sound[8000:], 0.5, RATE)
        stream.finish()
        assert stream.counts.late_sound_seconds == pytest.approx(0.5)
        assert_same(drain(stream), from_file(engine, video, sound))


@pytest.mark.parametrize("drift", [-0.01, 0.01])
def test_a_drifting_clock_stays_within_twenty_milliseconds(engine, drift):
    """A microphone whose second is a percent off: after 10 s its line ends where the timestamps say."""
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        stream.push_frame(make_video(1)[0], 0.0)
        for index in range(1000):
            stream.push_audio(make_sound(0.01, seed=index), index * 0.01 * (1 + drift), RATE)
        assert stream._line.position / RATE == pytest.approx(10 * (1 + drift), abs=0.031)
        moved = stream.counts.filled_sound_seconds + stream.counts.late_sound_seconds
        assert moved == pytest.approx(0.1, abs=0.03)


def test_missing_sound_holds_maps_up_for_a_while_only(engine):
    video = make_video(60)
    found, counts = streamed(engine, video, make_sound(0.1), sound_wait_seconds=0.5)
    assert [frame.index for frame in found] == list(range(60))
    assert counts.missing_sound_windows > 0
    with StreamPredictor(engine, frame_rate_hz=25, sound_wait_seconds=0.5) as stream:
        for index, rgb in enumerate(video[:20]):
            stream.push_frame(rgb, index / 25)
        assert stream.poll() is None  # 0.8 s: the first window's sound ends at 0.7 s, and may be half a second late


def test_what_is_not_polled_is_dropped_oldest_first(visual_engine):
    video = make_video(30)
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False, max_ready=4) as stream:
        for index, rgb in enumerate(video):
            stream.push_frame(rgb, index / 25)
        found = drain(stream)
        assert [frame.index for frame in found] == [25, 26, 27, 28]
        assert stream.counts.dropped_maps == 25
        stream.finish()
        assert [frame.index for frame in drain(stream)] == [29]
    wanted = from_file(visual_engine, video)
    for frame in found:  # a dropped map is not a dropped frame: those that come see all of theirs
        np.testing.assert_array_equal(frame.saliency_map, wanted[frame.index].saliency_map)


def test_dropping_with_a_stride_drops_the_frames_between(visual_engine):
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False, max_ready=2, stride=3) as stream:
        for index, rgb in enumerate(make_video(31)):
            stream.push_frame(rgb, index / 25)
        stream.finish()
        found = [frame.index for frame in drain(stream)]
    assert found == list(range(found[0], 31))
    assert found[0] % 3 == 0


def test_frames_that_go_back_in_time_are_refused(visual_engine):
    video = make_video(6)
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False) as stream:
        taken = [
            stream.push_frame(rgb, time) for rgb, time in zip(video, [0, 0.04, 0.02, 0.04, 0.08, 0.12], strict=True)
        ]
        stream.finish()
        found = drain(stream)
        assert taken == [True, True, False, False, True, True]
        assert stream.counts.late_frames == 2
    wanted = from_file(visual_engine, video[[0, 1, 4, 5]])
    assert_same(found, wanted)


def test_a_flood_of_frames_is_thinned(visual_engine):
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False) as stream:
        frame = make_video(1)[0]
        for index in range(2000):
            stream.push_frame(frame, index * 1e-6)
        assert stream.counts.refused_frames > 0
        assert len(stream._windows) <= stream._capacity < 500


def test_memory_holds_no_more_than_the_windows_need(engine):
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        frame, sound = make_video(1)[0], make_sound(0.04)
        for index in range(400):
            stream.push_frame(frame, index / 25)
            stream.push_audio(sound, index / 25, RATE)
            stream.poll()
        assert len(stream._windows) <= 40
        assert len(stream._runner._frames) <= 40
        assert sum(len(part) for part in stream._slices._parts) < 3 * RATE
        assert len(stream._slices._slices) <= 12


def test_three_threads(engine):
    """Pushing frames, pushing sound and polling at once: the same maps, whatever the order of things."""
    video, sound = make_video(80), make_sound(3.2)
    wanted = from_file(engine, video, sound)
    with StreamPredictor(engine, frame_rate_hz=25, max_ready=100, sound_wait_seconds=60) as stream:
        first = threading.Barrier(2)

        def see():
            for index, rgb in enumerate(video):
                stream.push_frame(rgb, index / 25)

        def hear():
            for at in range(0, len(sound), 333):
                stream.push_audio(sound[at : at + 333], at / RATE, RATE)
            first.wait()

        threads = [threading.Thread(target=see), threading.Thread(target=hear)]
        for thread in threads:
            thread.start()
        found = []
        while len(found) < 60:
            frame = stream.poll(timeout_seconds=5)
            assert frame is not None
            found.append(frame)
        first.wait()
        for thread in threads:
            thread.join()
        stream.finish()
        assert_same(found + drain(stream), wanted)


def test_poll_waits_no_longer_than_told(visual_engine):
    with StreamPredictor(visual_engine, frame_rate_hz=25, sound=False) as stream:
        assert stream.poll(timeout_seconds=0.01) is None
        stream.finish()
        assert stream.finished


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frame_rate_hz": 0}, "frame_rate_hz"),
        ({"frame_rate_hz": math.nan}, "frame_rate_hz"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": math.inf}, "delay_seconds"),
        ({"sound_wait_seconds": -1}, "sound_wait_seconds"),
        ({"max_ready": 0}, "max_ready"),
        ({"stride": 0}, "stride"),
        ({"padding": "zero"}, "padding"),
        ({"normalisation": "loud"}, "normalisation"),
        ({"smoothing_sigma": -1}, "smoothing"),
    ],
)
def test_options_that_cannot_be(engine, options, said):
    with pytest.raises(UsageError, match=said):
        StreamPredictor(engine, **options)


def test_pushes_that_cannot_be(engine):
    frame = make_video(1)[0]
    with StreamPredictor(engine) as stream:
        for rgb in (frame.astype(np.float32), frame[:, :, 0], "frame", np.empty((0, 4, 3), np.uint8)):
            with pytest.raises(UsageError, match="frame must be"):
                stream.push_frame(rgb, 0.0)
        for time in (math.nan, math.inf, -2e10):
            with pytest.raises(UsageError, match="finite"):
                stream.push_frame(frame, time)
            with pytest.raises(UsageError, match="finite"):
                stream.push_audio(np.zeros(10), time, RATE)
        with pytest.raises(UsageError, match="finite"):
            stream.push_audio(np.array([0.0, np.nan]), 0.0, RATE)
        with pytest.raises(UsageError, match="sample_rate_hz"):
            stream.push_audio(np.zeros(10), 0.0, 0)
        assert stream.counts.frames == 0
        stream.finish()
        with pytest.raises(UsageError, match="finished"):
            stream.push_frame(frame, 0.0)
        with pytest.raises(UsageError, match="finished"):
            stream.push_audio(np.zeros(10), 0.0, RATE)


def test_frames_and_sound_of_other_libraries(engine):
    """OpenCV's order of channels, and PyTorch's tensors, whose memory may be used again at once."""
    video, sound = make_video(8), make_sound(0.32)
    expected = from_file(engine, video, sound)
    place = torch.empty(video.shape[1:], dtype=torch.uint8)
    with StreamPredictor(engine, frame_rate_hz=25) as stream:
        heard = torch.from_numpy(sound.copy())
        stream.push_audio(heard, 0, RATE)
        heard[...] = torch.nan
        for index, rgb in enumerate(video):
            place[...] = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1]))
            assert stream.push_frame(place, index / 25, color="bgr")
        stream.finish()
        assert_same(drain(stream), expected)
