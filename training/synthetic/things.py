"""Things that move in a scene: faces with mouths, loudspeakers, balls, signs, and pieces of photographs.

A sprite is (h, w, 4) uint8 with alpha. A thing has one for each state of activity, from rest to full, which its sound
or its own envelope drives: a mouth opens, a cone comes forward; for the others the scene changes place, size or light.
"""

import dataclasses
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from dtfsal.training.data.stills import Points, Rgb
from dtfsal.training.synthetic.sources import Cutout, Photograph, Sources

Rng = np.random.Generator
# How activity shows: the place bobs, the size pulses, the light flickers, or the sprite itself has states.
Manner = Literal["bob", "pulse", "flicker", "states"]

STATES = 6
SUPERSAMPLING = 2
WORDS = ("SALE", "OPEN", "42", "NEWS", "EXIT", "Hello", "TAXI", "2 for 1", "A-Z", "LIVE")


@dataclasses.dataclass(frozen=True)
class Thing:
    """What a thing looks like.

    Attributes:
        sprites: one or more (h, w, 4), from rest to full activity; the largest is as tall as the thing.
        attraction: how much it draws gaze by what it is, relative to others.
    """

    sprites: tuple[Rgb, ...]
    attraction: float = 1.0


def random_thing(rng: Rng, sources: Sources, height: int) -> Thing:
    """Any thing, about so many pixels tall."""
    kinds = ["face", "loudspeaker", "ball", "sign", "piece", "piece", "piece"] + ["cutout"] * (
        4 if sources.cutouts else 0
    )
    kind = kinds[rng.integers(len(kinds))]
    if kind == "face":
        return face(rng, height)
    if kind == "loudspeaker":
        return loudspeaker(rng, height)
    if kind == "ball":
        return ball(rng, height)
    if kind == "sign":
        return sign(rng, height)
    if kind == "cutout":
        cutout = sources.cutouts[rng.integers(len(sources.cutouts))].rgba
        width = max(8, round(height * cutout.shape[1] / cutout.shape[0]))
        image = Image.fromarray(cutout).resize((min(width, 2 * height), height), Image.Resampling.BILINEAR)
        return Thing((np.asarray(image, np.uint8),))
    return piece(rng, sources.photographs[rng.integers(len(sources.photographs))], height)


def face(rng: Rng, height: int) -> Thing:
    """A drawn head whose mouth opens."""
    skin = tuple(int(c) for c in np.array([235, 190, 160]) * rng.uniform(0.35, 1.05) + rng.uniform(-12, 12, 3))
    hair, shirt = _colour(rng), _colour(rng)
    width = round(height * rng.uniform(0.72, 0.9))
    eye, wide = rng.uniform(0.36, 0.44), rng.uniform(0.2, 0.3)
    sprites = []
    for state in range(STATES):
        image, draw, w, h = _canvas(width, height)
        draw.ellipse((0.02 * w, 0, 0.98 * w, 0.8 * h), fill=hair)
        draw.ellipse((0.05 * w, 0.8 * h, 0.95 * w, 1.3 * h), fill=shirt)
        draw.ellipse((0.1 * w, 0.1 * h, 0.9 * w, 0.95 * h), fill=skin)
        for side in (0.33, 0.67):
            draw.ellipse((side * w - 0.08 * w, (eye - 0.04) * h, side * w + 0.08 * w, (eye + 0.04) * h), fill="white")
            draw.ellipse(
                (side * w - 0.035 * w, (eye - 0.03) * h, side * w + 0.035 * w, (eye + 0.03) * h), fill=(30, 20, 20)
            )
        draw.polygon([(0.5 * w, 0.45 * h), (0.45 * w, 0.6 * h), (0.55 * w, 0.6 * h)], fill=_darker(skin))
        opening = 0.01 + 0.11 * state / (STATES - 1)
        draw.ellipse(
            ((0.5 - wide) * w, (0.74 - opening) * h, (0.5 + wide) * w, (0.74 + opening) * h), fill=(120, 20, 30)
        )
        sprites.append(_finished(image, width, height))
    return Thing(tuple(sprites), attraction=1.3)


def talker(rng: Rng, cutout: Cutout, height: int) -> Thing:
    """Head and shoulders of a cut-out; it opens below where people look, as a photographed face does at its mouth."""
    share = min(1.0, 2.0 * cutout.gaze[1] + 0.15)
    bust = cutout.rgba[: max(2, round(share * cutout.rgba.shape[0]))]
    width = max(8, min(2 * height, round(height * bust.shape[1] / bust.shape[0])))
    sprite = np.asarray(Image.fromarray(bust).resize((width, height), Image.Resampling.BILINEAR), np.uint8)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across = np.exp(-(((columns - cutout.gaze[0] * width) / (rng.uniform(0.1, 0.2) * height)) ** 2))
    line = height * min(cutout.gaze[1] / share + rng.uniform(0.06, 0.15), 0.85)
    closing = np.clip(1 - (rows - line) / (0.35 * height), 0, 1)  # far below nothing moves
    sprites = []
    for state in range(STATES):
        drop = rng.uniform(0.09, 0.11) * height * state / (STATES - 1) * across
        source = np.where(rows >= line, rows - drop * closing, rows)
        opened = (rows >= line) & (source < line)
        moved = sprite[np.clip(np.round(source), 0, height - 1).astype(np.intp), columns.astype(np.intp)].copy()
        moved[opened, :3] = (70, 20, 20)
        sprites.append(moved)
    return Thing(tuple(sprites), attraction=1.3)


def loudspeaker(rng: Rng, height: int) -> Thing:
    """A box whose cone comes forward."""
    width, box, cone = round(height * rng.uniform(0.6, 0.9)), _darker(_colour(rng)), _colour(rng)
    sprites = []
    for state in range(STATES):
        image, draw, w, h = _canvas(width, height)
        draw.rectangle((0, 0, w, h), fill=box)
        radius = (0.28 + 0.14 * state / (STATES - 1)) * w
        draw.ellipse((w / 2 - radius, 0.62 * h - radius, w / 2 + radius, 0.62 * h + radius), fill=cone)
        draw.ellipse((w / 2 - radius / 3, 0.62 * h - radius / 3, w / 2 + radius / 3, 0.62 * h + radius / 3), fill=box)
        draw.ellipse((0.4 * w, 0.1 * h, 0.6 * w, 0.1 * h + 0.2 * w), fill=cone)
        sprites.append(_finished(image, width, height))
    return Thing(tuple(sprites))


def ball(rng: Rng, height: int) -> Thing:
    """A ball with stripes, lit from above."""
    image, draw, w, h = _canvas(height, height)
    first, second = _colour(rng), _colour(rng)
    draw.ellipse((0, 0, w, h), fill=first)
    for stripe in range(3):
        edge = (0.1 + 0.3 * stripe) * w
        draw.ellipse((edge, 0, edge + 0.15 * w, h), fill=second)
    draw.ellipse((0.25 * w, 0.1 * h, 0.45 * w, 0.3 * h), fill=(255, 255, 255))
    outline = Image.new("L", image.size)
    ImageDraw.Draw(outline).ellipse((0, 0, w, h), fill=255)
    image.putalpha(outline)
    return Thing((_finished(image, height, height),))


def sign(rng: Rng, height: int) -> Thing:
    """A board with a word."""
    width = round(height * rng.uniform(1.2, 1.8))
    image, draw, w, h = _canvas(width, height)
    draw.rounded_rectangle((0, 0, w, h), radius=h // 8, fill=_colour(rng))
    word = WORDS[rng.integers(len(WORDS))]
    draw.text((w / 2, h / 2), word, fill=_colour(rng), anchor="mm", font_size=1.5 * w / (len(word) + 1))
    return Thing((_finished(image, width, height),), attraction=1.1)


def piece(rng: Rng, photograph: Photograph, height: int) -> Thing:
    """An irregular piece of a photograph, mostly around a place that people looked at."""
    rows, columns = photograph.rgb.shape[:2]
    size = rng.uniform(0.25, 0.5) * rows
    x, y = _place(rng, photograph.points, rows, columns)
    left, top = np.clip(x - size / 2, 0, columns - size), np.clip(y - size / 2, 0, rows - size)
    box = (float(left), float(top), float(left + size), float(top + size))
    patch = Image.fromarray(photograph.rgb).resize((height, height), Image.Resampling.BILINEAR, box=box)
    angle = np.arctan2(*np.meshgrid(*[np.linspace(-1, 1, height)] * 2, indexing="ij"))
    edge = 0.85 + sum(rng.uniform(0, 0.12) / k * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    radius = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, height)] * 2, indexing="ij"))
    alpha = np.clip((edge - radius) * height / 6, 0, 1)
    rgba = np.dstack((np.asarray(patch, np.uint8), (255 * alpha).astype(np.uint8)))
    return Thing((rgba,))


def _place(rng: Rng, points: Points, rows: int, columns: int) -> tuple[float, float]:
    if len(points) and rng.random() < 0.75:
        x, y = points[rng.integers(len(points))]
        return float(x), float(y)
    return rng.uniform(0, columns), rng.uniform(0, rows)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int, int]:
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    image = Image.new("RGBA", (w, h))
    return image, ImageDraw.Draw(image), w, h


def _finished(image: Image.Image, width: int, height: int) -> Rgb:
    shaded = np.asarray(image.resize((width, height), Image.Resampling.BOX), np.uint8).copy()
    light = np.linspace(1.1, 0.75, height)[:, None, None]  # from above
    shaded[:, :, :3] = np.clip(shaded[:, :, :3] * light, 0, 255)
    return shaded


def _colour(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = (int(c) for c in rng.integers(20, 250, 3))
    return red, green, blue


def _darker(colour: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(0.7 * c) for c in colour)
