"""Photographs as clips: a camera that crops, flips, pans and zooms, and moves the fixations along."""

import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.training.data.density import fixation_density

Rgb = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Shot:
    """What a camera sees of a photograph: for each frame a box (left, top, right, bottom) in its pixels.

    Attributes:
        boxes: (N, 4).
        flipped: whether left and right are exchanged.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
    """

    boxes: Boxes
    flipped: bool
    height: int
    width: int

    def frame(self, rgb: Rgb, index: int) -> Rgb:
        """The frame, (height, width, 3) uint8, of a photograph (H, W, 3)."""
        box = tuple(float(edge) for edge in self.boxes[index])
        image = Image.fromarray(rgb).resize((self.width, self.height), Image.Resampling.BILINEAR, box=box)
        frame = np.asarray(image, np.uint8)
        return frame[:, ::-1] if self.flipped else frame

    def frames(self, rgb: Rgb) -> Rgb:
        """All frames, (N, height, width, 3); those of a box that does not move are made once."""
        result = np.empty((len(self.boxes), self.height, self.width, 3), np.uint8)
        for index in range(len(self.boxes)):
            still = index > 0 and (self.boxes[index] == self.boxes[index - 1]).all()
            result[index] = result[index - 1] if still else self.frame(rgb, index)
        return result

    def points(self, points: Points, index: int) -> Points:
        """Positions (n, 2) of the photograph, x and y, in pixels of the frame; some may lie outside."""
        left, top, right, bottom = self.boxes[index]
        scale_x, scale_y = self.width / (right - left), self.height / (bottom - top)
        # Pixel centres are at integers.
        x = (points[:, 0] + 0.5 - left) * scale_x - 0.5
        y = (points[:, 1] + 0.5 - top) * scale_y - 0.5
        return np.stack((self.width - 1 - x if self.flipped else x, y), axis=1).astype(np.float32)

    def density(self, points: Points, index: int, degree_pixels: float) -> npt.NDArray[np.float32]:
        """(height, width) density of fixations on the photograph, whose pixels are so many to a degree."""
        left, top, right, bottom = self.boxes[index]
        sigma = degree_pixels * self.height / (bottom - top), degree_pixels * self.width / (right - left)
        density = fixation_density(self.points(points, index), self.height, self.width, sigma)
        return density.astype(np.float32)


def random_shot(
    rng: np.random.Generator,
    photograph_size: tuple[int, int],
    frame_size: tuple[int, int],
    *,
    frames: int = 1,
    crop: float = 0.6,
    moving: bool = False,
    unsquashed: bool = False,
) -> Shot:
    """A shot of a photograph: half of the time the whole of it, else a crop; flipped half of the time.

    The whole of a photograph is stretched to the frame's aspect, as the runtime stretches frames.

    Args:
        rng: where the choice comes from.
        photograph_size: (H, W).
        frame_size: (height, width).
        frames: N.
        crop: the smallest crop's share of the photograph's height.
        moving: pan and zoom slowly from one crop to another, with a soft start and end.
        unsquashed: draw each crop's aspect between the photograph's and the frame's, so that things come in all shapes
            from stretched to true. Else it is the photograph's, give or take.
    """
    height, width = photograph_size
    true_aspect = (frame_size[1] / frame_size[0]) / (width / height)

    def box(whole: bool) -> Boxes:
        if whole:
            return np.array([0, 0, width, height], np.float64)
        share_y = rng.uniform(crop, 1)
        stretch = rng.uniform(0.85, 1.15)
        if unsquashed:
            stretch *= true_aspect ** rng.uniform(0, 1)
            share_y = min(share_y, 1 / stretch)
        share_x = np.clip(share_y * stretch, 0.0 if unsquashed else crop, 1)
        left, top = rng.uniform(0, 1 - share_x) * width, rng.uniform(0, 1 - share_y) * height
        return np.array([left, top, left + share_x * width, top + share_y * height])

    first = box(whole=not moving and rng.random() < 0.5)
    boxes = np.tile(first, (frames, 1))
    if moving:
        # 5 s lead at most 40 % of the way between two crops: a quick pan would leave no gaze where it was.
        last = first + rng.uniform(0.1, 0.4) * (box(whole=False) - first)
        share = np.linspace(0, 1, frames)[:, None]
        boxes = first + (share * share * (3 - 2 * share)) * (last - first)
    return Shot(boxes, bool(rng.random() < 0.5), *frame_size)


def vary_colour(rng: np.random.Generator, frames: Rgb) -> Rgb:
    """Frames (..., 3) uint8 with another brightness, contrast and saturation, the same for all."""
    gain, contrast, saturation = rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.25), rng.uniform(0.6, 1.3)
    # One affine map of colours: saturation mixes with the mean of the channels, contrast pivots at mid-grey.
    mix = saturation * np.eye(3) + (1 - saturation) / 3
    matrix = (gain * contrast * mix).astype(np.float32)
    offset = np.float32(gain * 127.5 * (1 - contrast))
    varied = frames.astype(np.float32) @ matrix + offset
    return np.clip(varied + 0.5, 0, 255).astype(np.uint8)
