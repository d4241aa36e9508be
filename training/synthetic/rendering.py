"""Drawing: things over a background seen by a camera, with what an editor and a sensor add."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dtfsal.training.data.camera import Shot
from dtfsal.training.data.stills import Rgb
from dtfsal.training.synthetic.things import Manner, Thing

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

# How far full activity goes: a bob in shares of the thing's height, a pulse in shares of its size, a flicker in light.
BOB, PULSE, FLICKER = 0.35, 0.35, 0.8
CAPTION_SHARE, PATCH_SHARE, NOISE_SHARE = 0.12, 0.1, 0.4


def render(
    rng: Rng,
    background: Rgb,
    shot: Shot,
    things: Sequence[Thing],
    places: Floats,
    activity: Floats,
    manner: Manner,
) -> Rgb:
    """All frames of a scene.

    Args:
        rng: of captions, flickering patches and noise.
        background: the photograph, (H, W, 3) uint8.
        shot: the camera over it.
        things: what is in front, the last one foremost.
        places: (N, K, 3) x, y and height of each in pixels.
        activity: (N, K) in [0, 1].
        manner: how activity shows in those things whose sprites have no states.

    Returns:
        (N, height, width, 3) uint8.
    """
    frames = shot.frames(background)
    sizes: dict[tuple[int, int, int], Rgb] = {}
    for index, frame in enumerate(frames):
        for number, thing in enumerate(things):
            x, y, height = places[index, number]
            level = float(activity[index, number])
            state = round(level * (len(thing.sprites) - 1))
            by_state = len(thing.sprites) > 1
            if not by_state and manner == "bob":
                y -= BOB * height * (level - 0.3)
            if not by_state and manner == "pulse":
                height *= 1 + PULSE * (level - 0.3)
            key = (number, state, round(height))
            if key not in sizes:
                sizes[key] = _scaled(thing.sprites[state], round(height))
            light = 1 + FLICKER * (level - 0.3) if not by_state and manner == "flicker" else 1.0
            blend(frame, sizes[key], float(x), float(y), light)
    edit(rng, frames)
    return frames


def _scaled(sprite: Rgb, height: int) -> Rgb:
    if sprite.shape[0] == height:
        return sprite
    width = max(1, round(height * sprite.shape[1] / sprite.shape[0]))
    return np.asarray(Image.fromarray(sprite).resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def blend(frame: Rgb, sprite: Rgb, x: float, y: float, light: float) -> None:
    """Lay a sprite over a frame, its centre at x and y; what lies outside is cut off."""
    height, width = sprite.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[:, :, 3:].astype(np.float32) / 255
    colour = np.minimum(part[:, :, :3].astype(np.float32) * light, 255)
    under = frame[y0:y1, x0:x1]
    under[:] = (under + alpha * (colour - under)).astype(np.uint8)


def edit(rng: Rng, frames: Rgb) -> None:
    """A caption, a flickering patch, and the sensor's noise, each in some scenes; none of them is looked at much."""
    count, height, width = frames.shape[:3]
    if rng.random() < CAPTION_SHARE:
        strip = Image.new("L", (width, height // 12))
        text = "".join(rng.choice(list("abcdefghij klmnop rstuvw "), int(rng.integers(12, 40))))
        ImageDraw.Draw(strip).text((width / 2, height / 24), text, fill=255, anchor="mm", font_size=height / 18)
        letters = np.asarray(strip)[:, :, None] > 100
        row = int(rng.choice([height // 20, height - height // 12 - height // 20]))
        band = frames[:, row : row + letters.shape[0]]
        np.copyto(band, np.uint8(rng.choice([10, 245])), where=np.broadcast_to(letters, band.shape))
    if rng.random() < PATCH_SHARE:
        side = int(rng.uniform(0.06, 0.12) * height)
        y, x = int(rng.integers(height - side)), int(rng.integers(width - side))
        frames[:, y : y + side, x : x + side] = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    if rng.random() < NOISE_SHARE:
        # One field of noise, shifted from frame to frame: as lively as a fresh one, and quicker.
        noise = (rng.uniform(1, 7) * rng.standard_normal((height, width, 3), dtype=np.float32)).astype(np.int16)
        for frame in frames:
            moved = np.roll(noise, tuple(rng.integers(0, (height, width))), axis=(0, 1))
            frame[:] = np.clip(frame + moved, 0, 255)
