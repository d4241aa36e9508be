"""Scenes: things move over a photograph, one of them may sound, and observers look where the stated model says.

What decides where people look is the scene's kind:

    sound_decides   things alike in how they move; only the sound tells which one makes it
    speakers        faces whose mouths move; one speaks, and sometimes the turn passes to another
    motion          one or two things move among some that stand still; what is heard has nothing to do with it
    onset           all stand still until one moves
    still           a photograph under a camera, perhaps with a thing that does nothing
    action          somebody runs, jumps and turns through a cluttered photograph, and a camera may follow
"""

import dataclasses
import itertools
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.camera import random_shot, vary_colour
from dtfsal.training.data.stills import Points, Rgb
from dtfsal.training.synthetic.action import ActionPart
from dtfsal.training.synthetic.gaze import GazeModel, GazeTrack, lagged, remembered
from dtfsal.training.synthetic.rendering import render
from dtfsal.training.synthetic.sounds import (
    ENVELOPE_RATE_HZ,
    ambience,
    burst_envelope,
    random_gain,
    random_sound,
    sound,
)
from dtfsal.training.synthetic.sources import Sources
from dtfsal.training.synthetic.things import Manner, Thing, face, random_thing, talker

Kind = Literal["sound_decides", "speakers", "motion", "onset", "still", "action"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

BACKGROUND_POINTS = 12  # of a photograph's fixations, how many stand for them in the mixture


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What scenes are like.

    Attributes:
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        seconds: length.
        frame_rate_hz: frames per second.
        sample_rate_hz: of the sound.
        observers: how many look.
        kind_shares: how often each kind comes, in the order of `KINDS`.
        cut_share: how often a scene is cut to another in its middle.
        gaze: where they look.
    """

    height: int = 224
    width: int = 384
    seconds: float = 5.12
    frame_rate_hz: float = 12.5
    sample_rate_hz: int = 16000
    observers: int = 24
    kind_shares: tuple[float, ...] = (0.3, 0.25, 0.08, 0.14, 0.08, 0.15)
    cut_share: float = 0.1
    gaze: GazeModel = dataclasses.field(default_factory=GazeModel)

    @property
    def degree_pixels(self) -> float:
        """One degree of visual angle: 3 % of the frame's width, as in OSIE."""
        return self.width * 19 / 640

    @property
    def frames(self) -> int:
        """Frames of a scene."""
        return round(self.seconds * self.frame_rate_hz)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A short video with sound, and the gaze on it.

    Attributes:
        seed: what it was made from.
        kind: what decides where people look; of the first part, if it is cut.
        frames: (N, H, W, 3) uint8.
        frame_rate_hz: frames per second.
        samples: (n,) float32 mono in [-1, 1], as long as the frames.
        gaze: (N, observers, 2) x and y in pixels.
        tracks: the mixtures that the gaze was drawn from, of each part.
        sounding: for each frame, the number of the thing that sounds, or -1.
        things: (N, K, 3) x, y and height of each thing in pixels; NaN where a part has fewer.
        activity: (N, K) how far each thing moves or opens, in [0, 1].
    """

    seed: int
    kind: Kind
    frames: Rgb
    frame_rate_hz: float
    samples: Floats
    gaze: Floats
    tracks: tuple[GazeTrack, ...]
    sounding: npt.NDArray[np.intp]
    things: Floats
    activity: Floats

    def density(self, index: int) -> Floats:
        """Where people look in a frame by the model of gaze, (H, W), summing to 1."""
        for track in self.tracks:
            if index < len(track.weights):
                return track.density(index)
            index -= len(track.weights)
        raise UsageError(f"the scene has {len(self.frames)} frames")

    def fixations(self, index: int) -> Points:
        """(observers, 2) x and y in pixels, where each observer looks in a frame."""
        return self.gaze[index]

    def gaze_change(self) -> Floats:
        """(N,) the share of gaze that goes over to something else from a frame to the next; 1 at a cut."""
        changes = [np.insert(np.abs(np.diff(track.weights, axis=0)).sum(axis=1) / 2, 0, 1) for track in self.tracks]
        changes[0][0] = 0
        return np.concatenate(changes).astype(np.float32)


def check_kind(kind: str) -> None:
    """Raises UsageError where there is no such kind of scene."""
    if kind not in KINDS:
        raise UsageError(f"there is no kind of scene {kind!r}; choose one of {', '.join(KINDS)}")


def generate_scene(
    seed: int,
    sources: Sources,
    config: SceneConfig | None = None,
    *,
    kind: Kind | None = None,
    voice: int = 0,
    drawn: Rgb | None = None,
) -> Scene:
    """Make a scene; the same for the same arguments and version.

    Args:
        seed: at least 0.
        sources: what it is made of.
        config: what scenes are like; the defaults if not given.
        kind: what is to decide where people look; any by default.
        voice: another number gives another thing the sound where sound decides, modulo how many things there are; all
            frames stay the same. Sound alone tells such scenes apart.
        drawn: the frames of the same scene with another voice, so that they need not be drawn again.

    Raises:
        UsageError: there is no such kind, or the scene would have no frame.
    """
    config = config or SceneConfig()
    if kind is not None:
        check_kind(kind)
    if config.frames < 2:
        raise UsageError(f"a scene needs two frames or more, not {config.frames}")
    rng = np.random.default_rng(seed)
    first_kind = kind or KINDS[rng.choice(len(KINDS), p=np.array(config.kind_shares) / sum(config.kind_shares))]
    frames = config.frames
    counts = [frames]
    if rng.random() < config.cut_share and frames >= 16:
        cut = int(rng.integers(frames // 3, 2 * frames // 3))
        counts = [cut, frames - cut]
    parts: list[_Part | ActionPart] = [
        ActionPart(
            rng, sources, config.gaze, (config.height, config.width), count, config.frame_rate_hz, config.sample_rate_hz
        )
        if first_kind == "action"
        else _Part(rng, sources, config, count, first_kind, voice)
        for count in counts
    ]
    if drawn is None:
        drawn = np.concatenate([part.draw() for part in parts])
    samples = np.concatenate([part.samples for part in parts])
    wanted = round(frames / config.frame_rate_hz * config.sample_rate_hz)
    samples = np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]
    most = max(len(part.things) for part in parts)
    track_of = [_padded(part.places, most) for part in parts]
    return Scene(
        seed,
        first_kind,
        drawn,
        config.frame_rate_hz,
        samples,
        np.concatenate(
            [
                part.track.observe(rng, config.observers, config.frame_rate_hz, config.gaze.dwell_seconds)
                for part in parts
            ]
        ),
        tuple(part.track for part in parts),
        np.concatenate([part.sounding for part in parts]),
        np.concatenate(track_of),
        np.concatenate([_padded(part.activity, most) for part in parts]),
    )


class _Part:
    """A scene between two cuts."""

    def __init__(self, rng: Rng, sources: Sources, config: SceneConfig, frames: int, kind: Kind, voice: int) -> None:
        self._rng, self._config, self._count = rng, config, frames
        self._seconds = frames / config.frame_rate_hz
        photograph = sources.photographs[rng.integers(len(sources.photographs))]
        self._photograph = photograph
        size = photograph.rgb.shape[:2]
        moving = bool(rng.random() < 0.6)
        self.shot = random_shot(rng, size, (config.height, config.width), frames=frames, moving=moving, crop=0.5)
        self.things, manner = self._choose_things(sources, kind)
        self.sounding = np.full(frames, -1, np.intp)
        self.activity = np.zeros((frames, len(self.things)), np.float32)
        drawn = np.full((frames, len(self.things)), config.gaze.other, np.float32)  # each thing's pull on gaze
        moves = np.ones(len(self.things), bool)
        if kind in ("sound_decides", "speakers"):
            self.samples = self._let_sound_decide(drawn, voice, turns=kind == "speakers")
        else:
            self.samples = self._let_motion_decide(kind, drawn, moves)
        self.places = self._place_things(kind, moves)
        self.track = self._gaze(kind, drawn)
        self._manner, self._drawing = manner, rng.spawn(1)[0]

    def draw(self) -> Rgb:
        """The frames, (N, H, W, 3) uint8."""
        rng = self._drawing
        background = vary_colour(rng, self._photograph.rgb)
        return render(rng, background, self.shot, self.things, self.places, self.activity, self._manner)

    def _choose_things(self, sources: Sources, kind: Kind) -> tuple[list[Thing], Manner]:
        rng = self._rng

        def height() -> int:
            return int(rng.uniform(0.16, 0.36) * self._config.height)

        if kind == "speakers":
            photographed = sources.cutouts and rng.random() < 0.5
            faces = [
                talker(rng, sources.cutouts[rng.integers(len(sources.cutouts))], int(1.3 * height()))
                if photographed
                else face(rng, int(1.3 * height()))
                for _ in range(rng.integers(2, 4))
            ]
            return faces, "states"
        count = {"sound_decides": rng.integers(2, 5), "motion": rng.integers(2, 5), "onset": rng.integers(2, 4)}
        things = [random_thing(rng, sources, height()) for _ in range(count.get(kind, rng.integers(0, 2)))]
        manners: tuple[Manner, ...] = ("bob", "pulse", "flicker")
        if things and all(len(thing.sprites) > 1 for thing in things):
            manners = ("states",)
        return things, manners[rng.choice(len(manners), p=[1.0] if len(manners) == 1 else [0.45, 0.35, 0.2])]

    def _let_sound_decide(self, drawn: Floats, voice: int, *, turns: bool) -> Floats:
        """Each thing acts in bursts of its own; one of them is heard, and who it is may change."""
        rng, config, count = self._rng, self._config, self._count
        envelopes = [burst_envelope(rng, self._seconds)]
        for _ in self.things[1:]:
            shift = int(rng.uniform(0.35, 1.5) * ENVELOPE_RATE_HZ) * (1 if rng.random() < 0.5 else -1)
            delayed, other = np.roll(envelopes[0], shift), burst_envelope(rng, self._seconds)
            envelopes.append(delayed if rng.random() < 0.5 else other)
        self.activity[:] = np.stack([_at_frames(envelope, count) for envelope in envelopes], axis=1)
        order = np.roll(rng.permutation(len(self.things)), -voice)
        turn = int(rng.uniform(0.35, 0.65) * count) if turns and rng.random() < 0.4 else count
        self.sounding[:turn], self.sounding[turn:] = order[0], order[1 % len(order)]
        heard = self.activity[np.arange(count), self.sounding]
        turn_of_envelope = round(turn / count * len(envelopes[0]))
        envelope = np.concatenate(
            [envelopes[order[0]][:turn_of_envelope], envelopes[order[1 % len(order)]][turn_of_envelope:]]
        )
        recent = remembered(heard[:, None], config.frame_rate_hz, config.gaze.memory_seconds)[:, 0]
        chosen = config.gaze.chosen * (0.4 + 0.6 * np.clip(1.3 * recent, 0, 1))
        drawn[np.arange(count), self.sounding] = chosen
        drawn += ((config.gaze.chosen - chosen) / len(self.things))[:, None]
        samples = sound(rng, envelope, config.sample_rate_hz)
        if rng.random() < 0.5:
            samples = samples + 10 ** (rng.uniform(-30, -14) / 20) * ambience(rng, len(samples), config.sample_rate_hz)
        return _at_level(samples, random_gain(rng))

    def _let_motion_decide(self, kind: Kind, drawn: Floats, moves: npt.NDArray[np.bool_]) -> Floats:
        """What moves, or begins to, draws; what is heard is anything."""
        rng, config, count = self._rng, self._config, self._count
        things = len(self.things)
        moves[:] = False
        if kind == "motion":
            movers = rng.permutation(things)[: 1 if things == 2 or rng.random() < 0.6 else 2]
            moves[movers] = True
            drawn[:, movers] = config.gaze.chosen / len(movers)
        elif kind == "onset":
            starter = int(rng.integers(things))
            start = int(rng.uniform(0.2, 0.6) * count)
            moves[starter] = True
            since = np.arange(count) - start
            fresh = np.exp(-np.maximum(since, 0) / (1.2 * config.frame_rate_hz))
            drawn[:, starter] = np.where(since >= 0, config.gaze.chosen * (0.45 + 0.55 * fresh), config.gaze.other)
            self._onset = start
        # Where nothing is heard to come from, things may still act by themselves.
        for thing in np.flatnonzero(moves):
            if rng.random() < 0.4:
                self.activity[:, thing] = _at_frames(burst_envelope(rng, self._seconds), count)
        samples = round(self._seconds * config.sample_rate_hz)
        if rng.random() < 0.35:
            return np.zeros(samples, np.float32)
        return random_sound(rng, self._seconds, config.sample_rate_hz)

    def _place_things(self, kind: Kind, moves: npt.NDArray[np.bool_]) -> Floats:
        """(N, K, 3): smooth paths that stay inside and begin apart."""
        rng, config, count = self._rng, self._config, self._count
        places = np.zeros((count, len(self.things), 3), np.float32)
        slots = rng.permutation(6)  # cells of a 3 x 2 grid
        time = np.arange(count) / config.frame_rate_hz
        for number, thing in enumerate(self.things):
            height, width = thing.sprites[-1].shape[:2]
            column, row = slots[number] % 3, slots[number] // 3
            start = np.array([(column + rng.uniform(0.3, 0.7)) / 3, (row + rng.uniform(0.3, 0.7)) / 2])
            drift = rng.uniform(-0.06, 0.06, 2) if moves[number] else np.zeros(2)  # of the frame, per second
            if kind in ("motion", "onset") and moves[number]:
                drift = drift + rng.choice([-1, 1], 2) * rng.uniform(0.04, 0.16, 2)
            elapsed = np.maximum(time - self._onset / config.frame_rate_hz, 0) if kind == "onset" else time
            sway = rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * elapsed + rng.uniform(0, 6.3))
            path = start + elapsed[:, None] * drift + (sway * moves[number])[:, None]
            margin = np.array([width / 2 / config.width, height / 2 / config.height])
            places[:, number, :2] = _bounced(path, margin, 1 - margin) * [config.width, config.height]
            places[:, number, 2] = height
        return places

    def _gaze(self, kind: Kind, drawn: Floats) -> GazeTrack:
        config, model, count = self._config, self._config.gaze, self._count
        rng = self._rng
        size = (config.height, config.width)
        weights, means, sigmas = [], [], []
        for number, thing in enumerate(self.things):
            weights.append(thing.attraction * drawn[:, number])
            means.append(self.places[:, number, :2])
            sigma = np.maximum(config.degree_pixels, model.scatter_of_thing * self.places[:, number, 2])
            sigmas.append(np.repeat(sigma[:, None], 2, axis=1))
        background = 0.85 if kind == "still" else model.background
        points = self._photograph.points
        chosen = points[rng.choice(len(points), min(BACKGROUND_POINTS, len(points)), replace=False)]
        seen = np.stack([self.shot.points(chosen, index) for index in range(count)])  # (N, P, 2)
        inside = np.all((seen >= 0) & (seen < [config.width, config.height]), axis=2)
        for number in range(len(chosen)):
            weights.append(background / len(chosen) * inside[:, number])
            means.append(seen[:, number])
            sigmas.append(np.full((count, 2), 1.5 * config.degree_pixels))
        weights.append(np.full(count, model.centre))
        means.append(np.tile([config.width / 2 - 0.5, config.height / 2 - 0.5], (count, 1)))
        sigmas.append(np.tile(model.centre_spread * np.array([config.width, config.height]), (count, 1)))
        lag = round(model.lag_seconds * config.frame_rate_hz)
        stacked = lagged(np.stack(weights, axis=1), lag)
        return GazeTrack(
            (stacked / stacked.sum(axis=1, keepdims=True)).astype(np.float32),
            lagged(np.stack(means, axis=1), lag).astype(np.float32),
            lagged(np.stack(sigmas, axis=1), lag).astype(np.float32),
            size,
        )


def _bounced(path: npt.NDArray[np.float64], low: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A path that turns back at the edges: a triangle wave between them."""
    low = np.asarray(low)
    span = np.maximum(np.asarray(high) - low, 1e-6)
    phase = (path - low) / span % 2
    return low + span * np.where(phase > 1, 2 - phase, phase)


def _at_frames(envelope: Floats, frames: int) -> Floats:
    """The envelope's mean over each frame's time."""
    edges = np.linspace(0, len(envelope), frames + 1).round().astype(int)
    return np.array([envelope[a : max(b, a + 1)].mean() for a, b in itertools.pairwise(edges)], np.float32)


def _at_level(samples: Floats, peak: float) -> Floats:
    return (samples * (peak / max(float(np.abs(samples).max(initial=0)), 1e-9))).astype(np.float32)


def _padded(values: Floats, things: int) -> Floats:
    width = [(0, 0), (0, things - values.shape[1])] + [(0, 0)] * (values.ndim - 2)
    return np.pad(values, width, constant_values=np.nan)
