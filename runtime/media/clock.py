"""Time as a player shows it: clocks that restart or jump are bridged, and each decoded frame gets a time that rises."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import av.error

# A longer jump forwards is a clock that jumped, in formats whose clocks may; a shorter one is a gap, and shown.
GAP_SECONDS = 10.0
# In other formats a gap may be long: a recorder that sleeps between events.
LONGEST_GAP_SECONDS = 30 * 3600.0
# A step back beyond this is a clock that restarted: of formats whose clocks may, and of others.
BACK_SECONDS, RARE_BACK_SECONDS = 0.1, 1.0
# Sound that jumps before the picture does waits for it, for so many packets: one offset must serve both.
HELD_PACKETS = 128
# A smaller step is rounding. Picture and sound that step by so nearly the same have followed the same clock.
JITTER_SECONDS, ALIKE_SECONDS = 0.02, 1.0
# A presentation time so far from its decoding time is damaged.
FARTHEST_PTS_SECONDS = 10.0
# A frame that repeats or precedes its predecessor's time is put this share of a frame interval after it.
REPEATED_TIME_SHIFT = 0.1


def backdated(packets: Iterator[Any], stream: int, interval_seconds: float) -> Iterator[Any]:
    """Packets, of which a stream's first ones get decoding times before that of the first packet that has one.

    Matroska cannot hold times below zero, and FFmpeg gives none for pictures that have some.

    Args:
        packets: as they were demuxed.
        stream: its number.
        interval_seconds: between its packets, where they do not say how long they last.
    """
    waiting: list[Any] | None = []
    try:
        for packet in packets:
            if waiting is None or packet.stream.index != stream:
                yield packet
            elif packet.dts is None and packet.size and len(waiting) < HELD_PACKETS:
                waiting.append(packet)
            else:
                ticks = packet.dts
                for earlier in reversed(waiting if ticks is not None else ()):
                    ticks -= earlier.duration or round(interval_seconds / earlier.time_base)
                    earlier.dts = ticks
                yield from waiting
                waiting = None
                yield packet
    except (av.error.FFmpegError, OSError):  # cut short
        yield from waiting or ()
        raise
    yield from waiting or ()


@dataclasses.dataclass
class _Stretch:
    """Packets of one unbroken clock, and what is added to it; None as long as that waits for the picture."""

    offset: float | None
    step: float  # by which the stream that came first left the clock before
    newest: float  # decoding time, by the stretch's own clock


@dataclasses.dataclass
class _Track:
    """Where a stream is."""

    stretch: int
    last_seconds: float  # when its last packet is decoded, by the stretch's own clock
    next_seconds: float  # when its next one is due, by the same
    shown_seconds: float  # until when its packets are shown, by the same
    first_seconds: float


class ClockBridge:
    """Shifts the times of packets so that a clock that restarts or jumps goes on where it was.

    Picture and sound get one offset at each jump: the picture goes on without a gap, and the sound keeps its place
    beside it. Readers of the same file agree if each feeds the packets of both streams.

    Args:
        main: number of the stream that sets the offset: the picture's, or the sound's of a file with sound alone.
        clocks_jump: whether the format is one whose clocks restart and jump, as transport streams do.
        interval_seconds: between frames of the picture; used where a packet does not tell its duration.

    Attributes:
        jumps: bridged so far.
        clocks_jump: see above.
    """

    def __init__(self, main: int, *, clocks_jump: bool, interval_seconds: float = 0.0) -> None:
        self.jumps = 0
        self._main = main
        self.clocks_jump = clocks_jump
        self._interval = interval_seconds
        self._back = BACK_SECONDS if clocks_jump else RARE_BACK_SECONDS
        self._gap = GAP_SECONDS if clocks_jump else LONGEST_GAP_SECONDS
        self._stretches = [_Stretch(0.0, 0.0, 0.0)]
        self._tracks: dict[int, _Track] = {}
        self._held: list[Any] = []
        self._left = 0  # the stretch before theirs

    def first_seconds(self, stream: int) -> float | None:
        """Decoding time of a stream's first packet; None before it."""
        track = self._tracks.get(stream)
        return None if track is None else track.first_seconds

    def feed(self, packet: Any) -> Iterator[Any]:
        """Take a demuxed packet; give those whose times are settled, in order for each stream."""
        if packet.dts is None or packet.time_base is None:
            if packet.size == 0:  # the end
                yield from self._release()
            yield self._shifted(packet)
            return
        seconds = float(packet.dts * packet.time_base)
        stream = packet.stream.index
        if self.clocks_jump and packet.pts is not None:
            ahead = float((packet.pts - packet.dts) * packet.time_base)
            if abs(ahead) > FARTHEST_PTS_SECONDS:
                packet.pts = None
        track = self._tracks.get(stream)
        if track is None:
            track = self._tracks[stream] = _Track(len(self._stretches) - 1, seconds, seconds, seconds, seconds)
        shown = seconds if packet.pts is None else float(packet.pts * packet.time_base)
        stretch_before = track.stretch
        step = seconds - track.next_seconds
        before = self._stretches[track.stretch].offset
        if abs(step) > JITTER_SECONDS and self._joins(track, seconds):
            if self._stretches[track.stretch].offset is None:  # the picture has followed the sound
                assert before is not None
                self._stretches[track.stretch].offset = before + track.shown_seconds - shown
                yield from self._release()
        elif not self._continues(track, seconds):
            yield from self._release()
            self._open(stream, track, step, seconds, shown)
        stretch = self._stretches[track.stretch]
        stretch.newest = seconds
        duration = float((packet.duration or 0) * packet.time_base)
        duration = duration or (self._interval if stream == self._main else 0.0)
        track.last_seconds, track.next_seconds = seconds, seconds + duration
        goes_on = track.stretch == stretch_before
        track.shown_seconds = max(shown + duration, track.shown_seconds if goes_on else -math.inf)
        if stretch.offset is None:
            self._held.append(packet)
            if len(self._held) >= HELD_PACKETS:
                yield from self._release()
        else:
            yield self._shifted(packet)

    def _joins(self, track: _Track, seconds: float) -> bool:
        """Let a stream follow the other one into a stretch that this one opened, if it took the same step."""
        step = seconds - track.next_seconds
        for number in range(track.stretch + 1, len(self._stretches)):
            stretch = self._stretches[number]
            alike = step * stretch.step > 0 and abs(step - stretch.step) <= ALIKE_SECONDS
            if alike or (not self._continues(track, seconds) and abs(seconds - stretch.newest) <= GAP_SECONDS):
                track.stretch = number
                return True
        return False

    def _continues(self, track: _Track, seconds: float) -> bool:
        """Whether a time follows the last one; at a variable rate it may come long before it is due."""
        return track.last_seconds - self._back <= seconds <= track.next_seconds + self._gap

    def _open(self, stream: int, track: _Track, step: float, seconds: float, shown: float) -> None:
        """A stream's clock is another from here on, and the other stream has not said so yet."""
        before = self._stretches[track.stretch].offset
        assert before is not None
        waits = stream != self._main and self._main in self._tracks
        offset = None if waits else before + track.shown_seconds - shown
        self._stretches.append(_Stretch(offset, step, seconds))
        self._left = track.stretch
        track.stretch = len(self._stretches) - 1
        self.jumps += 1

    def _release(self) -> Iterator[Any]:
        """What was held; if the picture has not followed the sound, the sound goes its own way."""
        newest = self._stretches[-1]
        if newest.offset is None:
            before = self._stretches[self._left].offset
            assert before is not None
            newest.offset = before - newest.step
            if abs(newest.step) <= GAP_SECONDS:  # an overlap in the sound alone: it keeps the picture's clock
                self.jumps -= 1
                newest.offset = before
        held, self._held = self._held, []
        for packet in held:
            yield self._shifted(packet)

    def _shifted(self, packet: Any) -> Any:
        track = self._tracks.get(packet.stream.index)
        offset = 0.0 if track is None else self._stretches[track.stretch].offset
        if offset and packet.time_base:
            ticks = round(offset / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet


class FrameTimes:
    """Times of decoded frames, from 0 at the first on, which rise.

    A frame's time is its presentation time, as long as those rise better than the decoder's (FFmpeg calls that the
    best effort). Frames without any follow each other by the nominal interval.

    Args:
        interval_seconds: between frames.
        by_slot: whether the container counts packets and knows no presentation times: frames then take the places of
            packets, in the order in which they are shown.

    Attributes:
        start_seconds: what the container calls the first frame's time.
    """

    def __init__(self, interval_seconds: float, *, by_slot: bool) -> None:
        self.start_seconds = 0.0
        self._interval = interval_seconds
        self._by_slot = by_slot
        self._zero: int | None = None
        self._previous = -math.inf
        self._last_pts: float = -math.inf
        self._last_dts: float = -math.inf
        self._faulty_pts = 0
        self._faulty_dts = 0

    def seconds(self, frame: Any) -> float:
        """The time of the next frame that the decoder gave."""
        stamp = frame.dts if self._by_slot else self._best(frame.pts, frame.dts)
        base = frame.time_base
        if self._previous == -math.inf:
            if stamp is not None and base is not None:
                self._zero = stamp
                self.start_seconds = float(stamp * base)
            self._previous = 0.0
            return 0.0
        if stamp is None or base is None or self._zero is None:
            seconds = self._previous + self._interval
        else:
            seconds = float((stamp - self._zero) * base)
        if seconds <= self._previous:
            seconds = self._previous + REPEATED_TIME_SHIFT * self._interval
        self._previous = seconds
        return seconds

    def _best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and self._faulty_pts <= self._faulty_dts:
            return pts
        # Behind the last packet decoders give no decoding time: the interval is better than what proved wrong.
        return dts
