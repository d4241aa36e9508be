"""Action: cut-out people and animals run, jump and turn through cluttered photographs, and a camera follows them.

The world is a photograph, mirrored side by side into a panorama. The actor has a path through it. The camera stands
still, or follows the actor more or less closely: then the actor stands nearly still in the frame and the background
streams. Frames are exposed for a share of their time, so whatever moves in them is blurred. People look at the actor
while it acts, as the model of gaze says for what moves alone, but eyes pursue a path with hardly any lag.
"""

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.training.data.camera import Shot, vary_colour
from dtfsal.training.data.stills import DEGREE_OF_WIDTH, Rgb
from dtfsal.training.synthetic.gaze import GazeModel, GazeTrack, lagged
from dtfsal.training.synthetic.rendering import blend, edit
from dtfsal.training.synthetic.sounds import random_sound
from dtfsal.training.synthetic.sources import Photograph, Sources
from dtfsal.training.synthetic.things import piece

Floats = npt.NDArray[np.float32]
Courses = npt.NDArray[np.float64]  # values along time
Rng = np.random.Generator
Camera = Literal["still", "follows", "lags"]

CAMERAS: tuple[Camera, ...] = ("still", "follows", "lags")
CAMERA_SHARES = (0.3, 0.5, 0.2)
TILES = 6  # photographs side by side in the panorama, each as wide as a frame
ROOM = 1.45  # height of the panorama, in frames
EXPOSURES = 4  # moments that a blurred frame is the mean of
ONSET_SHARE, STOP_SHARE, JUMP_SHARE, TURN_SHARE, ZOOM_SHARE, GROWTH_SHARE = 0.45, 0.2, 0.5, 0.4, 0.4, 0.4
BACKGROUND_POINTS = 12


@dataclasses.dataclass(frozen=True)
class Actor:
    """Something cut out.

    Attributes:
        sprite: (h, w, 4) uint8 with alpha.
        gaze: where people look at it, x and y as shares of its width and height from its middle.
    """

    sprite: Rgb
    gaze: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Moves:
    """How something moves, at each moment.

    Attributes:
        x: (n,) of its middle in the panorama, in frame widths.
        y: (n,) in frame heights.
        height: (n,) in frame heights.
        facing: (n,) from -1, mirrored, to 1; between them it is turning and narrower.
        angle: (n,) degrees counter-clockwise.
    """

    x: Courses
    y: Courses
    height: Courses
    facing: Courses
    angle: Courses


class ActionPart:
    """A scene of action between two cuts. Its things are the actor, which comes first, and others that stand or stroll.

    Attributes:
        things: actor and others.
        places: (N, K, 3) x, y and height of each in pixels of the frame; they may lie outside.
        activity: (N, K), 1 while the actor acts.
        sounding: (N,) -1: nothing is heard to come from anything.
        samples: any sound, or silence.
        track: where people look.
    """

    def __init__(
        self,
        rng: Rng,
        sources: Sources,
        model: GazeModel,
        size: tuple[int, int],
        frames: int,
        frame_rate_hz: float,
        sample_rate_hz: int,
    ) -> None:
        self._rng, self._size, self._count, self._rate_hz = rng, size, frames, frame_rate_hz
        seconds = frames / frame_rate_hz
        self._photograph = sources.photographs[rng.integers(len(sources.photographs))]
        exposure = rng.uniform(0, 0.8)
        self._exposures = EXPOSURES if exposure > 0.15 else 1
        offsets = exposure * (np.arange(self._exposures) - (self._exposures - 1) / 2) / self._exposures
        # Moments of each frame's exposure, one frame after the other.
        self._time = ((np.arange(frames)[:, None] + offsets) / frame_rate_hz).ravel()
        self.camera: Camera = CAMERAS[rng.choice(len(CAMERAS), p=CAMERA_SHARES)]
        self.things = [_actor(rng, sources) for _ in range(rng.integers(2, 5))]
        starts = rng.uniform(0.2, 0.6) * seconds if rng.random() < ONSET_SHARE else -1.0
        stops = rng.uniform(0.7, 0.95) * seconds if rng.random() < STOP_SHARE else np.inf
        acts = _ramp(self._time - starts, 0.25) * (1 - _ramp(self._time - stops, 0.3))
        actor = self._act(acts)
        self._boxes = self._film(actor, starts)
        self._moves = [actor, *(self._stroll(actor) for _ in self.things[1:])]
        seen = [self._in_frame(moves) for moves in self._moves]
        self.places = np.stack([self._at_frames(course) for course in seen], axis=1).astype(np.float32)
        self.activity = np.zeros(self.places.shape[:2], np.float32)
        self.activity[:, 0] = self._at_frames(acts)
        self.sounding = np.full(frames, -1, np.intp)
        self.samples = np.zeros(round(seconds * sample_rate_hz), np.float32)
        if rng.random() >= 0.35:
            self.samples = random_sound(rng, seconds, sample_rate_hz)
        self.track = self._gaze(model, starts, stops)
        self._drawing = rng.spawn(1)[0]

    def draw(self) -> Rgb:
        """The frames, (N, H, W, 3) uint8."""
        height, width = self._size
        wide = _panorama(vary_colour(self._drawing, self._photograph.rgb), self._wide_size())
        shot = Shot(self._boxes, False, height, width)
        order = [*sorted(range(1, len(self.things)), key=lambda number: self._moves[number].y[0]), 0]
        frames = np.empty((self._count, height, width, 3), np.uint8)
        for index in range(self._count):
            total = np.zeros((height, width, 3), np.uint16)
            for moment in range(index * self._exposures, (index + 1) * self._exposures):
                frame = np.array(shot.frame(wide, moment))
                for number in order:
                    self._lay(frame, number, moment)
                total += frame
            frames[index] = total // self._exposures
        edit(self._drawing, frames)
        return frames

    def _lay(self, frame: Rgb, number: int, moment: int) -> None:
        """One thing over a frame, scaled, turned and tilted."""
        moves, sprite = self._moves[number], self.things[number].sprite
        x, y, height = self._in_frame(moves)[moment]
        facing = moves.facing[moment]
        rows = max(2, round(height))
        columns = max(2, round(height * sprite.shape[1] / sprite.shape[0] * max(0.3, abs(facing))))
        image = Image.fromarray(sprite).resize((columns, rows), Image.Resampling.BILINEAR)
        if facing < 0:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if abs(moves.angle[moment]) > 0.5:
            image = image.rotate(float(moves.angle[moment]), Image.Resampling.BILINEAR, expand=True)
        blend(frame, np.asarray(image, np.uint8), float(x), float(y), 1.0)

    def _act(self, acts: Courses) -> Moves:
        """The actor: it runs, turns, jumps, and comes nearer or goes away, while it acts."""
        rng, time = self._rng, self._time
        seconds = self._count / self._rate_hz
        step = np.diff(time, prepend=time[0])
        speed = rng.uniform(0.1, 0.45) if self.camera == "still" else rng.uniform(0.25, 1.1)
        speed = min(speed, (TILES - 1.5) / seconds)  # the panorama ends
        direction = np.full(len(time), rng.choice([-1.0, 1.0]))
        if rng.random() < TURN_SHARE:
            direction *= 1 - 2 * _ramp(time - rng.uniform(0.3, 0.8) * seconds, rng.uniform(0.2, 0.5))
        x = np.cumsum(speed * direction * acts * step)
        middle = (x.min() + x.max()) / 2 + (rng.uniform(-0.2, 0.2) if self.camera == "still" else 0.0)
        height = np.full(len(time), rng.uniform(0.22, 0.6))
        if rng.random() < GROWTH_SHARE:
            height *= np.linspace(1, rng.choice([rng.uniform(0.6, 0.85), rng.uniform(1.2, 1.6)]), len(time))
        gait = 2 * np.pi * rng.uniform(1.2, 3.2) * time + rng.uniform(0, 6.3)
        up = rng.uniform(0.02, 0.1) * np.abs(np.sin(gait)) * acts
        angle = rng.uniform(0, 8) * np.sin(gait) * acts
        if rng.random() < JUMP_SHARE:
            begin, lasts = rng.uniform(0.2, 0.7) * seconds, rng.uniform(0.5, 0.9)
            share = np.clip((time - begin) / lasts, 0, 1)
            up = up + rng.uniform(0.4, 1.1) * 4 * share * (1 - share)
            if rng.random() < 0.35:  # a somersault
                angle = angle + 360 * rng.choice([-1, 1]) * share
        path = TILES / 2 + x - middle
        y = ROOM / 2 + rng.uniform(-0.1, 0.2) - up * height
        return Moves(path, y, height, direction, angle)

    def _film(self, actor: Moves, starts: float) -> Courses:
        """The camera's boxes in the panorama's pixels, (n, 4)."""
        rng, time = self._rng, self._time
        x, y = np.full(len(time), TILES / 2), np.full(len(time), ROOM / 2)
        if self.camera != "still":
            late = rng.uniform(0.0, 0.08) if self.camera == "follows" else rng.uniform(0.15, 0.5)
            place = rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.1)  # where the actor is kept in the frame
            x = _smoothed(actor.x, time, late) - place[0]
            y = ROOM / 2 + rng.uniform(0.2, 0.9) * (_smoothed(actor.y, time, late) - ROOM / 2) - place[1]
        for course in (x, y):
            course += rng.uniform(0, 0.012) * _shake(rng, time)
        zoom = np.full(len(time), rng.uniform(0.85, 1.0))
        if rng.random() < ZOOM_SHARE:
            begin = max(starts, 0) + rng.uniform(0, 0.4)
            zoom *= 1 + rng.choice([rng.uniform(-0.3, -0.12), rng.uniform(0.1, 0.3)]) * _ramp(time - begin, 1.5)
        height, width = self._size
        rows, columns = self._wide_size()
        half_x, half_y = zoom / 2, np.minimum(zoom, ROOM * 0.999) / 2
        x = np.clip(x, half_x, TILES - half_x) * width
        y = np.clip(y, half_y, ROOM - half_y) * height
        boxes = np.stack((x - half_x * width, y - half_y * height, x + half_x * width, y + half_y * height), axis=1)
        return np.clip(boxes, 0, [columns, rows, columns, rows])

    def _stroll(self, actor: Moves) -> Moves:
        """Somebody else near the actor's way, at rest or slow."""
        rng, time = self._rng, self._time
        x = actor.x[rng.integers(len(time))] + rng.uniform(-0.5, 0.5) + rng.choice([0, rng.uniform(-0.1, 0.1)]) * time
        height = np.full(len(time), actor.height.mean() * rng.uniform(0.6, 1.1))
        still = np.zeros(len(time))
        return Moves(x, still + ROOM / 2 + rng.uniform(-0.15, 0.3), height, still + rng.choice([-1, 1]), still)

    def _in_frame(self, moves: Moves) -> Courses:
        """(n, 3): x, y and height in pixels of the frame."""
        height, width = self._size
        left, top, right, bottom = self._boxes.T
        x = (moves.x * width - left) * width / (right - left) - 0.5
        y = (moves.y * height - top) * height / (bottom - top) - 0.5
        return np.stack((x, y, moves.height * height * height / (bottom - top)), axis=1)

    def _gaze(self, model: GazeModel, starts: float, stops: float) -> GazeTrack:
        height, width = self._size
        degree = DEGREE_OF_WIDTH * width
        time = np.arange(self._count) / self._rate_hz
        weights, means, sigmas = [], [], []
        for number, actor in enumerate(self.things):
            x, y, size = self.places[:, number].T
            moves = self._moves[number]
            facing, angle = self._at_frames(moves.facing), np.deg2rad(self._at_frames(moves.angle))
            aspect = actor.sprite.shape[1] / actor.sprite.shape[0]
            dx, dy = actor.gaze[0] * aspect * size * facing, actor.gaze[1] * size
            mean = np.stack((x + dx * np.cos(angle) + dy * np.sin(angle), y - dx * np.sin(angle) + dy * np.cos(angle)))
            inside = (np.abs(mean[0] - width / 2) < width / 2) & (np.abs(mean[1] - height / 2) < height / 2)
            pull = np.full(self._count, model.other)
            if number == 0:
                rests = np.exp(-np.maximum(time - stops, 0) / 1.2) if np.isfinite(stops) else 1.0
                pull = np.where(time < starts, model.other, model.other + (model.chosen - model.other) * rests)
            weights.append(pull * inside)
            means.append(mean.T)
            sigmas.append(np.repeat(np.maximum(degree, 0.16 * size)[:, None], 2, axis=1))
        for point in self._background_points():
            inside = np.all((point >= 0) & (point < [width, height]), axis=1)
            weights.append(model.background * inside / BACKGROUND_POINTS)
            means.append(point)
            sigmas.append(np.full((self._count, 2), 1.5 * degree))
        weights.append(np.full(self._count, model.centre))
        means.append(np.tile([width / 2 - 0.5, height / 2 - 0.5], (self._count, 1)))
        sigmas.append(np.tile(model.centre_spread * np.array([width, height]), (self._count, 1)))
        late, pursuit = (round(lag * self._rate_hz) for lag in (model.lag_seconds, model.pursuit_lag_seconds))
        stacked = lagged(np.stack(weights, axis=1), late)
        return GazeTrack(
            (stacked / stacked.sum(axis=1, keepdims=True)).astype(np.float32),
            lagged(np.stack(means, axis=1), pursuit).astype(np.float32),
            lagged(np.stack(sigmas, axis=1), pursuit).astype(np.float32),
            self._size,
        )

    def _background_points(self) -> list[Courses]:
        """Some of the photograph's fixations in the frame, (N, 2) each, of one tile that the camera sees each."""
        rng, points = self._rng, self._photograph.points
        height, width = self._size
        rows, columns = self._photograph.rgb.shape[:2]
        chosen = points[rng.integers(len(points), size=BACKGROUND_POINTS)] if len(points) else points
        left, top, right, bottom = self._at_frames(self._boxes).T
        found = []
        for x, y in (chosen + 0.5) / [columns, rows]:
            tile = int(rng.integers(TILES))
            along = tile + (x if tile % 2 == 0 else 1 - x)
            found.append(
                np.stack(
                    (
                        (along * width - left) * width / (right - left) - 0.5,
                        (y * ROOM * height - top) * height / (bottom - top) - 0.5,
                    ),
                    axis=1,
                )
            )
        return found

    def _at_frames(self, course: Courses) -> Courses:
        """A course's means over each frame's exposure, (n, ...) -> (N, ...)."""
        return course.reshape(self._count, self._exposures, *course.shape[1:]).mean(axis=1)

    def _wide_size(self) -> tuple[int, int]:
        height, width = self._size
        return round(ROOM * height), TILES * width


def _actor(rng: Rng, sources: Sources) -> Actor:
    if sources.cutouts:
        cutout = sources.cutouts[rng.integers(len(sources.cutouts))]
        rgba = cutout.rgba if rng.random() < 0.5 else cutout.rgba[:, ::-1]
        across = cutout.gaze[0] if rgba is cutout.rgba else 1 - cutout.gaze[0]
        return Actor(np.ascontiguousarray(rgba), (across - 0.5, cutout.gaze[1] - 0.5))
    photograph: Photograph = sources.photographs[rng.integers(len(sources.photographs))]
    return Actor(piece(rng, photograph, 120).sprites[0], (0.0, 0.0))


def _panorama(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """A photograph and its mirror image in turn, side by side."""
    rows, columns = size
    tile = np.asarray(Image.fromarray(rgb).resize((columns // TILES, rows), Image.Resampling.BILINEAR), np.uint8)
    return np.concatenate([tile if number % 2 == 0 else tile[:, ::-1] for number in range(TILES)], axis=1)


def _ramp(seconds: Courses, lasts: float) -> Courses:
    """From 0 to 1, softly, in so many seconds from 0 on."""
    share = np.clip(seconds / lasts, 0, 1)
    return share * share * (3 - 2 * share)


def _smoothed(course: Courses, time: Courses, seconds: float) -> Courses:
    """A course that follows late, as a first-order system of this time constant does."""
    if seconds <= 0:
        return course.copy()
    result = course.copy()
    for index in range(1, len(course)):
        keep = np.exp(-max(float(time[index] - time[index - 1]), 0.0) / seconds)
        result[index] = keep * result[index - 1] + (1 - keep) * course[index]
    return result


def _shake(rng: Rng, time: Courses) -> Courses:
    """A hand's tremor, about 1 at most."""
    parts = [np.sin(2 * np.pi * rng.uniform(0.5, 4) * time + rng.uniform(0, 6.3)) for _ in range(3)]
    return np.mean(parts, axis=0)
