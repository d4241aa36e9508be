"""Clocks that restart and jump, and frames whose times are wrong or missing."""

import dataclasses
from fractions import Fraction

import pytest

from dtfsal.runtime.media.clock import ClockBridge, FrameTimes

TICK = Fraction(1, 1000)
VIDEO, SOUND = 0, 1


@dataclasses.dataclass(frozen=True)
class Stream:
    index: int


@dataclasses.dataclass
class Packet:
    """What the bridge uses of PyAV's."""

    kind: int
    dts: int | None
    pts: int | None
    duration: int = 40
    size: int = 10
    time_base: Fraction = TICK

    @property
    def stream(self):
        return Stream(self.kind)


def packet(kind, milliseconds, ahead=0, **more):
    return Packet(kind, milliseconds, milliseconds + ahead, **{"duration": 40 if kind == VIDEO else 20, **more})


def bridged(packets, *, clocks_jump=True):
    bridge = ClockBridge(VIDEO, clocks_jump=clocks_jump, interval_seconds=0.04)
    out = [ready for one in [*packets, Packet(VIDEO, None, None, size=0)] for ready in bridge.feed(one)]
    times = {kind: [p.dts for p in out if p.kind == kind and p.dts is not None] for kind in (VIDEO, SOUND)}
    return times, bridge.jumps


def part(start, *, late=0):
    """A second of picture and sound from a time on; the sound is muxed so many packets behind."""
    video = [(start + 40 * i, packet(VIDEO, start + 40 * i)) for i in range(25)]
    sound = [(start + 20 * i + 20 * late + 1, packet(SOUND, start + 20 * i)) for i in range(50)]
    return [one for _, one in sorted([*video, *sound], key=lambda pair: pair[0])]


@pytest.mark.parametrize("second", [0, 500, 3_601_000, 100_000_000])
@pytest.mark.parametrize("late", [-20, 0, 20])
def test_a_clock_that_restarts_or_jumps_goes_on_with_one_offset(second, late):
    times, jumps = bridged([*part(0, late=late), *part(second, late=late)])
    assert times[VIDEO] == list(range(0, 2000, 40))
    assert times[SOUND] == list(range(0, 2000, 20))
    assert jumps == 1


def test_the_last_picture_of_a_part_may_come_after_the_next_parts_first_sound():
    """As demuxers of transport streams give them: a picture's packet ends where the next begins."""
    packets = part(0)
    last = next(i for i in reversed(range(len(packets))) if packets[i].kind == VIDEO)
    moved = packets.pop(last)
    second = part(0)
    first = next(i for i, one in enumerate(second) if one.kind == VIDEO)
    sound, rest = [one for one in second if one.kind == SOUND][:3], second[first:]
    rest = [one for one in rest if one not in sound]
    times, jumps = bridged([*packets, *sound, moved, *rest])
    assert times[VIDEO] == list(range(0, 2000, 40))
    assert times[SOUND] == list(range(0, 2000, 20))
    assert jumps == 1


def test_sound_keeps_its_place_beside_the_picture_when_parts_end_apart():
    """The first part's sound is 60 ms longer than its picture: the second part's is not shifted by that."""
    longer = [packet(SOUND, 1000 + 20 * i) for i in range(3)]
    times, jumps = bridged([*part(0), *longer, *part(0)])
    assert times[VIDEO] == list(range(0, 2000, 40))
    assert times[SOUND][-50:] == list(range(1000, 2000, 20))
    assert jumps == 1


def test_parts_with_other_delays_are_shown_without_a_gap():
    """The second part's pictures are shown 80 ms after they are decoded, for the sake of frames between."""
    bridge = ClockBridge(VIDEO, clocks_jump=True, interval_seconds=0.04)
    first = [packet(VIDEO, 40 * i) for i in range(10)]
    second = [packet(VIDEO, 3_600_000 + 40 * i, ahead=ahead) for i, ahead in enumerate([80, 200, 80, 0, 40, 80])]
    shown = [ready.pts for one in [*first, *second] for ready in bridge.feed(one)]
    assert sorted(shown) == list(range(0, 640, 40))


def test_a_gap_that_a_player_waits_for_stays():
    times, jumps = bridged([*part(0), *part(6000)])
    assert times[VIDEO][24:26] == [960, 6000]
    assert jumps == 0


def test_a_burst_of_frames_in_a_slow_stream_is_no_jump():
    """A screen that was still for long: packets tell the mean duration."""
    times = [0, 1000, 2000, 2040, 2080, 2120, 3000]
    found, jumps = bridged([packet(VIDEO, time, duration=500) for time in times])
    assert found[VIDEO] == times
    assert jumps == 0


def test_an_hour_between_events_stays_where_clocks_do_not_jump():
    times, jumps = bridged([*part(0), *part(3_600_000)], clocks_jump=False)
    assert times[VIDEO][25] == 3_600_000
    assert jumps == 0


def test_sound_that_overlaps_alone_keeps_the_pictures_clock():
    video = [packet(VIDEO, 40 * i) for i in range(200)]
    sound = [packet(SOUND, 20 * i - (300 if i > 100 else 0)) for i in range(400)]
    both = [one for i in range(200) for one in (video[i], sound[2 * i], sound[2 * i + 1])]
    times, jumps = bridged(both)
    assert times[VIDEO] == list(range(0, 8000, 40))
    assert times[SOUND][-1] == 20 * 399 - 300
    assert jumps == 0


def test_a_damaged_presentation_time_is_dropped():
    bridge = ClockBridge(VIDEO, clocks_jump=True, interval_seconds=0.04)
    (kept,) = bridge.feed(packet(VIDEO, 0, ahead=80))
    (dropped,) = bridge.feed(packet(VIDEO, 40, ahead=3_600_000))
    assert kept.pts == 80
    assert dropped.pts is None


@dataclasses.dataclass(frozen=True)
class Frame:
    pts: int | None
    dts: int | None
    time_base: Fraction = TICK


def seconds(stamps, *, by_slot=False):
    times = FrameTimes(0.04, by_slot=by_slot)
    return [round(times.seconds(Frame(pts, dts)), 6) for pts, dts in stamps], times.start_seconds


def test_presentation_times_are_taken_from_the_first_on():
    assert seconds([(1_800_000_000_007, None), (1_800_000_000_057, 3)]) == ([0, 0.05], 1_800_000_000.007)


def test_frames_without_times_follow_each_other():
    assert seconds([(None, None)] * 3) == ([0, 0.04, 0.08], 0)
    assert seconds([(0, 0), (None, None), (100, 100)])[0] == [0, 0.04, 0.1]


def test_times_of_decoding_are_better_than_presentation_times_that_fall():
    stamps = [(40, 80), (120, 120), (80, 160), (160, 200), (280, 240), (240, 280), (200, None)]
    assert seconds(stamps)[0] == [0, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28]


def test_places_in_the_order_of_decoding():
    """Invented presentation times, as FFmpeg makes them up for AVI, do not matter; a place left out does."""
    stamps = [(40, 80), (120, 120), (80, 160), (160, 240), (None, None)]
    assert seconds(stamps, by_slot=True)[0] == [0, 0.04, 0.08, 0.16, 0.2]


def test_a_time_that_repeats_moves_on_a_little():
    assert seconds([(0, 0), (0, 0), (40, 40)])[0] == [0, 0.004, 0.04]
