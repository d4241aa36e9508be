"""Features of a window's frames as the head takes them, moved as little as possible from one window to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtfsal.engines import Engine

# Places beyond a window's frames: so many windows in turn add one frame each, the next one moves all.
SLIDE = 4
# A source of twice the model's rate has two kinds of windows in turn, which share no frame.
MOST_TRACKS = 2


class FeatureTrack:
    """The head's frames, with places for a few more than a window has.

    The next window begins one place later, and what both windows have stays where it is. Where a tensor cannot be
    viewed in part, as on a GPU, a track has a window's places only.

    Args:
        engine: whose memory holds them.
        shapes: of the head's inputs, by name: (1, T, C, h, w), and the type.
    """

    def __init__(self, engine: Engine, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self._engine = engine
        self._times = next(iter(shapes.values()))[0][1]
        slide = SLIDE if isinstance(engine.empty((1,), "float32"), np.ndarray) else 0
        self._places = {
            name: engine.empty((1, shape[1] + slide, *shape[2:]), dtype) for name, (shape, dtype) in shapes.items()
        }
        self._numbers = [-1] * (self._times + slide)  # of the frame in each place

    def best(self, wanted: Sequence[int]) -> tuple[int, int]:
        """How many of a window's frames are in their places already, and the window's first place for that."""
        firsts = range(len(self._numbers) - self._times + 1)
        held = [sum(map(int.__eq__, self._numbers[first:], wanted)) for first in firsts]
        most = max(held)
        return most, held.index(most)

    def window(self, first: int, wanted: Sequence[int], features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The head's inputs for a window.

        Args:
            first: its first place, from `best`.
            wanted: the numbers of its T frames.
            features: what the frame graph made of each.
        """
        for place, (number, made) in enumerate(zip(wanted, features, strict=True), first):
            if self._numbers[place] != number:
                for name, tensor in self._places.items():
                    self._engine.place(tensor, made[name], axis=1, index=place)
                self._numbers[place] = number
        if len(self._numbers) == self._times:
            return dict(self._places)
        return {name: tensor[:, first : first + self._times] for name, tensor in self._places.items()}


class FeatureTracks:
    """A few tracks, of which each window takes the one that has most of its frames.

    Args:
        engine: as for `FeatureTrack`.
        shapes: as for `FeatureTrack`.
    """

    def __init__(self, engine: Engine, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self._engine, self._shapes = engine, shapes
        self._tracks: list[FeatureTrack] = []  # the one used last comes last

    def window(self, wanted: Sequence[int], features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As `FeatureTrack.window`, wherever most of the frames are."""
        held = [track.best(wanted) for track in self._tracks]
        most = max((count for count, _ in held), default=0)
        if most:
            number = [count for count, _ in held].index(most)
        elif len(self._tracks) < MOST_TRACKS:
            self._tracks.append(FeatureTrack(self._engine, self._shapes))
            held.append((0, 0))
            number = -1
        else:
            number = 0
        first = held[number][1]
        track = self._tracks.pop(number)
        self._tracks.append(track)
        return track.window(first, wanted, features)
