"""Short clips in each of which something happens at a known frame, for `dtfsal.benchmarks.accuracy.delay`.

    jump    a bright disc is on the left and from the event on on the right, on a plain wall or a blurred photograph
    appear  a thing is there from the event on, on a photograph
    move    a thing that stood still moves from the event on, in a small circle at an even speed, on a photograph
    cut     another photograph from the event on

Nothing else changes. `appear` and `move` are two kinds of onset. Clips come from a seed: each is the same whatever
others are made beside it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.camera import random_shot
from dtfsal.training.data.clips import CutClip, StillClip
from dtfsal.training.data.stills import DEGREE_OF_WIDTH
from dtfsal.training.synthetic.sources import Photograph, Sources
from dtfsal.training.synthetic.things import random_thing

Kind = Literal["jump", "appear", "move", "cut"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

HEIGHT, WIDTH = 224, 384  # of the frames in pixels; an engine of another size shrinks or stretches them
RANGE_SECONDS = 0.48  # of the curves, before and after the event
STEADY_SECONDS = 0.4  # at either end of a clip: what a map is long before and long after
RATES_HZ = (5.0, 240.0)  # the least and the most frames per second


@dataclasses.dataclass(frozen=True)
class Span:
    """How many frames a clip has, and where its event lies.

    Attributes:
        frame_rate_hz: frames per second.
        steady: frames at either end whose windows do not reach the event.
        around: frames of the curve before the event, and as many after it.
        event: the number of the first frame that shows it.
    """

    frame_rate_hz: float
    steady: int
    around: int
    event: int

    @property
    def frames(self) -> int:
        """Of the clip: as many before the event as from it on."""
        return 2 * self.event

    @property
    def times_ms(self) -> tuple[float, ...]:
        """(2 * around,) the middle of the time in which each frame of the curve is seen, from the event on."""
        return tuple((step + 0.5) * 1000 / self.frame_rate_hz for step in range(-self.around, self.around))


def span_of(frame_rate_hz: float, reach_seconds: float) -> Span:
    """A clip that is long enough.

    Args:
        frame_rate_hz: frames per second.
        reach_seconds: how far a window's frames lie from its target at most.

    Raises:
        UsageError: the rate is out of range.
    """
    low, high = RATES_HZ
    if not low <= frame_rate_hz <= high:
        raise UsageError(f"the frame rate must be from {low:g} to {high:g} per second, not {frame_rate_hz:g}")
    around = round(RANGE_SECONDS * frame_rate_hz)
    steady = max(2, round(STEADY_SECONDS * frame_rate_hz))
    return Span(frame_rate_hz, steady, around, steady + max(around, math.ceil(reach_seconds * frame_rate_hz)))


@dataclasses.dataclass(frozen=True)
class EventClip:
    """A clip with an event.

    Attributes:
        kind: of the event.
        frames: (N, H, W, 3) uint8.
        span: where the event lies.
        region: (H, W) float32 in [0, 1], the new target and one degree around it; None for a cut, after which all of
            the picture is new.
    """

    kind: Kind
    frames: Rgb
    span: Span
    region: Floats | None


def make_clip(kind: Kind, number: int, sources: Sources, span: Span, seed: int) -> EventClip:
    """One clip; the same for the same arguments and version.

    Args:
        kind: of the event.
        number: of the clip among those of its kind.
        sources: photographs for backgrounds, cuts and things.
        span: how long.
        seed: at least 0.

    Raises:
        UsageError: a cut needs two photographs.
    """
    rng = np.random.default_rng((seed, KINDS.index(kind), number))
    if kind == "cut":
        return _cut(rng, sources.photographs, span)
    if kind == "jump":
        background = _plain(rng) if number % 2 == 0 else _dimmed(_still(rng, sources))
        sprite = _disc(rng, round(rng.uniform(0.18, 0.36) * HEIGHT))
        old, new = (_place(rng, sprite, low * WIDTH, high * WIDTH) for low, high in ((0, 0.45), (0.55, 1)))
        return _drawn(kind, span, background, sprite, [old], [new])
    background = _still(rng, sources)
    sprite = random_thing(rng, sources, round(rng.uniform(0.2, 0.35) * HEIGHT)).sprites[0]
    if kind == "appear":
        return _drawn(kind, span, background, sprite, [], [_place(rng, sprite, 0, WIDTH)])
    radius, turns_per_second = rng.uniform(0.03, 0.05) * WIDTH, rng.choice([-1, 1]) * rng.uniform(0.8, 1.2)
    x, y = _place(rng, sprite, 0, WIDTH, margin=2 * radius)
    start = rng.uniform(0, 2 * math.pi)
    angles = start + 2 * math.pi * turns_per_second * np.arange(span.frames - span.event + 1) / span.frame_rate_hz
    path = [
        (x + radius * (math.cos(a) - math.cos(start)), y + radius * (math.sin(a) - math.sin(start))) for a in angles
    ]
    return _drawn(kind, span, background, sprite, path[:1], path[1:])


Place = tuple[float, float]  # x and y of a thing's centre in pixels


def _drawn(
    kind: Kind, span: Span, background: Rgb, sprite: Rgb, before: Sequence[Place], after: Sequence[Place]
) -> EventClip:
    """A thing over a background: at the one place of `before`, or absent, then at those of `after` in turn."""
    frames = np.empty((span.frames, HEIGHT, WIDTH, 3), np.uint8)
    frames[: span.event] = _laid(background, sprite, before[0]) if before else background
    seen = np.zeros((HEIGHT, WIDTH), np.uint8)
    pictures = [_laid(background, sprite, place) for place in after]
    for step in range(span.frames - span.event):
        frames[span.event + step] = pictures[min(step, len(pictures) - 1)]
    for place in dict.fromkeys(_corner(sprite, place) for place in after):
        mask = Image.new("L", (WIDTH, HEIGHT))
        mask.paste(Image.fromarray(sprite).getchannel("A"), place)
        seen = np.maximum(seen, np.asarray(mask))
    degree = round(DEGREE_OF_WIDTH * WIDTH)
    grown = Image.fromarray((seen > 127).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * degree + 1))
    return EventClip(kind, frames, span, np.asarray(grown, np.float32))


def _cut(rng: Rng, photographs: Sequence[Photograph], span: Span) -> EventClip:
    if len(photographs) < 2:
        raise UsageError(f"a cut needs two photographs or more, and there are {len(photographs)}")
    parts = []
    for number in rng.choice(len(photographs), 2, replace=False):
        photograph = photographs[number]
        shot = random_shot(rng, photograph.rgb.shape[:2], (HEIGHT, WIDTH), frames=span.event)
        parts.append(StillClip(shot, photograph.rgb, photograph.points, span.frame_rate_hz))
    return EventClip("cut", CutClip(tuple(parts)).frames, span, None)


def _still(rng: Rng, sources: Sources) -> Rgb:
    rgb = sources.photographs[rng.integers(len(sources.photographs))].rgb
    return random_shot(rng, rgb.shape[:2], (HEIGHT, WIDTH)).frame(rgb, 0)


def _plain(rng: Rng) -> Rgb:
    """A dim wall with blotches and grain."""
    blotches = Image.fromarray(rng.normal(0, 9, (7, 12)).astype(np.float32))
    wall = np.asarray(blotches.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))[:, :, None]
    grain = rng.normal(0, 5, (HEIGHT, WIDTH, 1))
    return np.clip(rng.uniform(50, 110, 3) + wall + grain, 0, 255).astype(np.uint8)


def _dimmed(picture: Rgb) -> Rgb:
    """A picture that draws the gaze less than a disc before it."""
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(6))
    return (0.5 * np.asarray(blurred)).astype(np.uint8)


def _disc(rng: Rng, diameter: int) -> Rgb:
    """A bright disc with checks, (diameter, diameter, 4) uint8."""
    y, x = np.mgrid[:diameter, :diameter] - (diameter - 1) / 2
    checks = (np.floor(4 * x / diameter) + np.floor(4 * y / diameter)) % 2
    colour = rng.uniform(215, 255, 3) - 70 * checks[:, :, None]
    alpha = 255 * np.clip(diameter / 2 - np.hypot(x, y), 0, 1)
    return np.dstack((colour, alpha)).astype(np.uint8)


def _place(rng: Rng, sprite: Rgb, left: float, right: float, margin: float = 0.0) -> Place:
    """A place where the sprite lies between two columns and inside the frame, so far from their edges."""
    height, width = sprite.shape[:2]
    x_margin, y_margin = margin + width / 2, margin + height / 2
    return rng.uniform(left + x_margin, right - x_margin), rng.uniform(y_margin, HEIGHT - y_margin)


def _corner(sprite: Rgb, place: Place) -> tuple[int, int]:
    return round(place[0] - sprite.shape[1] / 2), round(place[1] - sprite.shape[0] / 2)


def _laid(background: Rgb, sprite: Rgb, place: Place) -> Rgb:
    picture, thing = Image.fromarray(background), Image.fromarray(sprite)
    picture.paste(thing, _corner(sprite, place), thing)
    return np.asarray(picture, np.uint8)
