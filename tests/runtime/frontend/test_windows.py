"""Windows of a stream against a search over all timestamps at once, in whole ticks of a clock."""

import dataclasses
import itertools
import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.windows import (
    fold_times,
    iter_windows,
    nearest_frames,
    slice_indices,
    tap_interval,
    tap_times,
    window_centre_seconds,
)

TICKS = 30000  # per second: frames of 10, 24, 25, 29.97, 30, 50, 60 and 120 fps last whole ticks
AUDIO = AudioSpec(slices=9, height=112, width=192)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A frame that can be counted while it lives."""

    index: int
    time_seconds: float


def clip_of(frames, target="centre", rate=30.0):
    return ClipSpec(frames=frames, height=8, width=8, target=target, frame_rate_hz=rate)


def stream(ticks):
    return (Frame(index, tick / TICKS) for index, tick in enumerate(ticks))


def reflect(tick, first, last):
    while not first <= tick <= last:
        tick = 2 * first - tick if tick < first else 2 * last - tick
    return tick


def by_search(ticks, clip, interval, padding, stride):
    """(target, frame indices) of every window, in integers, all frames known."""
    ticks = np.asarray(ticks)
    first, last = int(ticks[0]), int(ticks[-1])
    targets = sorted({*range(0, len(ticks), stride), len(ticks) - 1})
    for target in targets:
        taps = [int(ticks[target]) + (k - clip.target_index) * interval for k in range(clip.frames)]
        if padding == "repeat" or first == last:
            taps = [min(max(tap, first), last) for tap in taps]
        else:
            taps = [reflect(tap, first, last) for tap in taps]
        # argmin gives the first of equally near frames: the earlier one.
        yield target, tuple(int(np.abs(ticks - tap).argmin()) for tap in taps)


def check(ticks, clip, source_interval, padding="reverse", stride=1):
    interval = tap_interval(clip, source_interval / TICKS) * TICKS
    assert interval == pytest.approx(round(interval), abs=1e-6), "the search needs whole ticks"
    windows = list(
        iter_windows(
            stream(ticks), clip, source_interval_seconds=source_interval / TICKS, padding=padding, stride=stride
        )
    )
    expected = list(by_search(ticks, clip, round(interval), padding, stride))
    assert [(w.index, tuple(f.index for f in w.frames)) for w in windows] == expected
    oldest = math.inf
    for window in reversed(windows):
        oldest = min(oldest, *(frame.index for frame in window.frames))
        assert window.oldest_index <= oldest  # of this window and all later ones
    for window in windows:
        assert window.frames[clip.target_index].index == window.index
        assert window.frames[clip.target_index].time_seconds == window.time_seconds == ticks[window.index] / TICKS
        centre = tap_times(clip, window.time_seconds, interval / TICKS).mean()
        assert window.centre_seconds == pytest.approx(centre, abs=1e-9)  # float64 of seconds up to a day
    return windows


frame_ticks = st.sampled_from([250, 500, 600, 1000, 1001, 1200, 1250, 3000])


@st.composite
def sources(draw):
    """Timestamps in ticks: a constant rate, or one with jitter, dropped frames and gaps; and their typical step."""
    step, count, start = draw(frame_ticks), draw(st.integers(1, 70)), draw(st.integers(-5000, 5000))
    kind = draw(st.sampled_from(["constant", "gaps", "anything"]))
    if kind == "constant":
        steps = [step] * (count - 1)
    elif kind == "gaps":
        steps = [step * draw(st.sampled_from([1, 1, 1, 1, 2, 3, 40])) for _ in range(count - 1)]
    else:
        steps = draw(st.lists(st.integers(1, 2 * step), min_size=count - 1, max_size=count - 1))
    return list(itertools.accumulate(steps, initial=start)), step


@settings(max_examples=200, deadline=None)
@given(
    source=sources(),
    frames=st.integers(1, 40),
    target=st.sampled_from(["last", "centre"]),
    padding=st.sampled_from(["reverse", "repeat"]),
    stride=st.integers(1, 9),
)
def test_equals_a_search_over_all_timestamps(source, frames, target, padding, stride):
    ticks, step = source
    check(ticks, clip_of(frames, target), step, padding, stride)


@pytest.mark.parametrize("padding", ["reverse", "repeat"])
@pytest.mark.parametrize("target", ["last", "centre"])
@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        (1250, [-2, -1, 0, 1]),  # 24 fps: consecutive frames
        (1200, [-2, -1, 0, 1]),  # 25
        (1001, [-2, -1, 0, 1]),  # 29.97
        (1000, [-2, -1, 0, 1]),  # 30
        (600, [-4, -2, 0, 2]),  # 50: every second
        (500, [-4, -2, 0, 2]),  # 60
        (250, [-8, -4, 0, 4]),  # 120: every fourth
        (3000, [-1, 0, 0, 0]),  # 10: taps 1/30 s apart, the frame nearest in time
        (2000, [-1, -1, 0, 0]),  # 15: a tap between two frames takes the earlier
        (1500, [-2, -1, 0, 1]),  # 20: just fast enough to be taken as it is
    ],
)
def test_usual_frame_rates(step, pattern, target, padding):
    windows = check([step * n for n in range(60)], clip_of(4, target), step, padding)
    if target == "centre":
        assert [frame.index - 30 for frame in windows[30].frames] == pattern


def test_every_frame_is_served_in_order_at_every_stride():
    for stride, count in itertools.product((1, 2, 7, 100), (1, 2, 14, 15, 16)):
        windows = iter_windows(
            stream(range(0, 1000 * count, 1000)), clip_of(4), source_interval_seconds=1 / 30, stride=stride
        )
        expected = [*range(0, count - 1, stride), count - 1]
        assert [window.index for window in windows] == expected


def test_one_frame_fills_the_whole_window():
    for padding in ("reverse", "repeat"):
        (window,) = iter_windows(stream([123]), clip_of(32), source_interval_seconds=0.04, padding=padding)
        assert [frame.index for frame in window.frames] == [0] * 32


def test_no_frames_no_windows():
    assert list(iter_windows([], clip_of(4), source_interval_seconds=0.04)) == []


def test_a_mirror_does_not_repeat_the_end_and_a_short_clip_swings():
    windows = check([0, 1000, 2000], clip_of(8, "last"), 1000)
    assert [frame.index for frame in windows[0].frames] == [1, 2, 1, 0, 1, 2, 1, 0][-8:]
    windows = check([0, 1000, 2000], clip_of(8, "last"), 1000, "repeat")
    assert [frame.index for frame in windows[2].frames] == [0, 0, 0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("padding", ["reverse", "repeat"])
@pytest.mark.parametrize("target", ["last", "centre"])
@pytest.mark.parametrize(("step", "per_tap"), [(1200, 1), (600, 2), (250, 4)])
@pytest.mark.parametrize("stride", [1, 13])
def test_memory_and_latency_are_bounded_by_the_clip_length(step, per_tap, target, padding, stride):
    """Frames alive and frames read ahead: about a clip length around the oldest waiting target."""
    clip, alive, read = clip_of(16, target), weakref.WeakSet(), 0

    def counted():
        nonlocal read
        for frame in stream(range(0, 1500 * step, step)):
            alive.add(frame)
            read += 1
            yield frame
            del frame

    clip_length = clip.frames * per_tap
    most = 0
    for window in iter_windows(counted(), clip, source_interval_seconds=step / TICKS, padding=padding, stride=stride):
        assert read - 1 - window.index <= clip_length + stride
        most = max(most, len(alive))
        del window
    # A clip length around the target; an interval more at both ends; the stride's distance to the next target; the one
    # frame before the first, and the one that has just come.
    assert most <= clip_length + 2 * per_tap + stride + 3


def test_the_past_alone_is_waited_for_where_the_target_is_last():
    """After the first mirrored windows, a live source has its map with the frame itself."""
    read = 0

    def counted():
        nonlocal read
        for frame in stream(range(0, 100 * 1200, 1200)):
            read += 1
            yield frame

    for window in iter_windows(counted(), clip_of(8, "last"), source_interval_seconds=0.04):
        assert window.index < 8 or read - 1 == window.index


def test_a_gap_of_an_hour_loses_no_frame():
    ticks = [*range(0, 10000, 1000), *range(3600 * TICKS, 3600 * TICKS + 10000, 1000)]
    windows = check(ticks, clip_of(8), 1000)
    # Before the gap the future is the nearer side of it, frame by frame.
    assert {frame.index for frame in windows[9].frames} <= set(range(10))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"stride": 0}, "stride"),
        ({"stride": 1.5}, "stride"),
        ({"stride": True}, "stride"),
        ({"padding": "zeros"}, "padding"),
        ({"source_interval_seconds": 0}, "interval"),
        ({"source_interval_seconds": -0.04}, "interval"),
        ({"source_interval_seconds": math.nan}, "interval"),
        ({"source_interval_seconds": math.inf}, "interval"),
    ],
)
def test_bad_arguments_are_usage_errors(arguments, match):
    with pytest.raises(UsageError, match=match):
        list(iter_windows(stream([0]), clip_of(4), **({"source_interval_seconds": 0.04} | arguments)))


@pytest.mark.parametrize("ticks", [[0, 0], [0, 1000, 999]])
def test_times_that_do_not_increase_are_said(ticks):
    with pytest.raises(UsageError, match="does not come after"):
        list(iter_windows(stream(ticks), clip_of(2), source_interval_seconds=0.04))


@pytest.mark.parametrize("ticks", [[math.nan], [0, math.nan], [0, 1200, math.inf], [-math.inf, 0]])
def test_times_that_are_not_finite_are_said(ticks):
    with pytest.raises(UsageError, match="must have a finite time"):
        list(iter_windows(stream(ticks), clip_of(4), source_interval_seconds=0.04))


@pytest.mark.parametrize("noise", [1.0, 1.002, 0.998])
@pytest.mark.parametrize(
    ("fps", "frames_per_tap"),
    [(20, 1), (24, 1), (25, 1), (30, 1), (45, 2), (50, 2), (60, 2), (75, 3), (90, 3), (120, 4), (240, 8), (1000, 33)],
)
def test_intervals_are_whole_frames_and_measured_rates_may_be_noisy(fps, frames_per_tap, noise):
    interval = tap_interval(clip_of(4), noise / fps)
    assert interval == pytest.approx(frames_per_tap * noise / fps, rel=1e-12)


@pytest.mark.parametrize("fps", [19, 15, 12.5, 10, 1])
def test_slow_sources_are_sampled_at_the_nominal_rate(fps):
    assert tap_interval(clip_of(4), 1 / fps) == 1 / 30
    assert tap_interval(clip_of(4, rate=fps), 1 / fps) == pytest.approx(1 / fps)


@given(
    times=st.lists(st.integers(-300, 300), min_size=1, max_size=20),
    first=st.integers(-20, 20),
    span=st.integers(0, 40),
    padding=st.sampled_from(["reverse", "repeat"]),
)
def test_folding_is_reflection_or_clamping(times, first, span, padding):
    folded = fold_times(np.array(times, np.float64), first, first + span, padding)
    if padding == "repeat" or span == 0:
        expected = [min(max(time, first), first + span) for time in times]
    else:
        expected = [reflect(time, first, first + span) for time in times]
    np.testing.assert_allclose(folded, expected, rtol=0, atol=1e-12)  # integers in float64


def test_folding_knows_only_its_paddings():
    with pytest.raises(UsageError, match="reverse, repeat"):
        fold_times(np.zeros(1), 0, 1, "wrap")


@given(
    stamps=st.lists(st.integers(-50, 50), min_size=1, max_size=12, unique=True).map(sorted),
    times=st.lists(st.integers(-140, 140).map(lambda n: n / 2), max_size=12),
)
def test_nearest_frame_by_search(stamps, times):
    expected = [int(np.abs(np.array(stamps) - time).argmin()) for time in times]
    # In thirds, so that equal distances are not equal in floating point.
    assert nearest_frames(np.array(stamps) / 3, np.array(times) / 3).tolist() == expected


@given(
    slices=st.integers(1, 12),
    hop=st.integers(1, 40),
    centre=st.floats(-100, 1e5, allow_nan=False),
)
def test_slices_are_the_nearest_of_the_grid(slices, hop, centre):
    audio = dataclasses.replace(AUDIO, slices=slices, slice_hop_frames=hop)
    chosen = slice_indices(audio, centre)
    assert len(chosen) == slices
    half = ((audio.slice_frames - 1) * audio.hop_length + audio.window_length) / 2 / audio.sample_rate_hz

    def distance(index):
        return abs(index * hop * 0.01 + half - centre)

    candidates = range(chosen.start - 30, chosen.stop + 30)
    nearest = sorted(distance(index) for index in candidates)[:slices]
    # Seconds up to a day in float64; equally near slices may be taken either way.
    assert sorted(map(distance, chosen)) == pytest.approx(nearest, abs=1e-8)


def test_neighbouring_windows_share_their_slices():
    clip = clip_of(32)
    interval = tap_interval(clip, 0.04)
    ranges = [slice_indices(AUDIO, window_centre_seconds(clip, n * 0.04, interval)) for n in range(1000)]
    for before, after in itertools.pairwise(ranges):
        assert after.start - before.start in (0, 1)
    # Forty seconds of windows need forty seconds of grid, and not nine slices each.
    assert len(set().union(*ranges)) <= 40 / 0.11 + 10


def test_window_centre_is_the_mean_of_the_taps():
    for frames, target, interval in itertools.product((1, 2, 5, 32), ("last", "centre"), (0.04, 1 / 30)):
        clip = clip_of(frames, target)
        mean = tap_times(clip, 7.5, interval).mean()
        assert window_centre_seconds(clip, 7.5, interval) == pytest.approx(mean, abs=1e-12)
