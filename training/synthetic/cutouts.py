"""What people looked at most in a photograph, cut out of it: a person, an animal, a thing, by GrabCut.

Rother, Kolmogorov & Blake, "GrabCut", SIGGRAPH 2004, as OpenCV has it. Fixations say where to begin: their densest
place is surely the thing, what is far from it is surely not. A cut-out is part of its photograph and has its licence.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.engines.errors import UnavailableError
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.stills import Rgb
from dtfsal.training.synthetic.sources import Cutout, Photograph

SIDE = 200  # pixels of the larger side while it is cut
REACH_X, REACH_Y = 0.22, 0.38  # of the picture's width and height: as far as the thing may reach from where gaze is
ROUNDS = 4
SMALLEST, LARGEST = 0.015, 0.25  # of the picture: smaller is a speck, larger is the scene
BORDER = 2  # pixels that are never of the thing


def gaze_cutouts(photographs: Sequence[Photograph]) -> list[Cutout]:
    """The cut-outs of those photographs in which one is found, the same for the same photographs and OpenCV.

    Raises:
        UnavailableError: OpenCV is not installed.
    """
    found = (gaze_cutout(photograph) for photograph in photographs if photograph.looked_at)
    return [cutout for cutout in found if cutout is not None]


def gaze_cutout(photograph: Photograph) -> Cutout | None:
    """What people looked at most, or None where nothing of a thing's size stands out there.

    Raises:
        UnavailableError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UnavailableError("cutting things out needs OpenCV; run `pip install 'dtfsal[evaluate]'`") from error

    rows, columns = photograph.rgb.shape[:2]
    scale = min(1.0, SIDE / max(rows, columns))
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    small = cv2.resize(photograph.rgb, (width, height), interpolation=cv2.INTER_AREA)
    density = fixation_density(
        (photograph.points + 0.5) * scale - 0.5, height, width, max(0.5, photograph.degree_of_height * height)
    )
    if not density.any():
        return None
    mask, (x, y) = _guess(density)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(small, mask, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # such as a picture of one colour
        return None
    thing = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    thing = cv2.morphologyEx(thing, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, measures, _ = cv2.connectedComponentsWithStats(thing)
    if count < 2:
        return None
    largest = 1 + int(measures[1:, cv2.CC_STAT_AREA].argmax())
    thing = (labels == largest).astype(np.uint8)
    if not SMALLEST < thing.mean() < LARGEST:
        return None
    soft = cv2.resize(cv2.GaussianBlur(thing.astype(np.float32), (0, 0), 1.0), (columns, rows))
    alpha = (255 * np.clip(1.3 * soft - 0.15, 0, 1)).astype(np.uint8)
    box = Image.fromarray(alpha).getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    rgba = np.dstack((photograph.rgb, alpha))[top:bottom, left:right]
    place = ((x / scale - left) / (right - left), (y / scale - top) / (bottom - top))
    return Cutout(photograph.name, rgba, (min(max(place[0], 0.0), 1.0), min(max(place[1], 0.0), 1.0)))


def _guess(density: npt.NDArray[np.float64]) -> tuple[Rgb, tuple[int, int]]:
    """GrabCut's first mask: 0 surely not, 1 surely, 2 probably not, 3 probably the thing; and the densest place."""
    height, width = density.shape
    share = density / density.max()
    y, x = (int(index) for index in np.unravel_index(share.argmax(), share.shape))
    rows, columns = np.mgrid[:height, :width]
    near = np.hypot((columns - x) / (REACH_X * width), (rows - y) / (REACH_Y * height)) < 1
    mask = np.zeros((height, width), np.uint8)
    mask[near] = 2
    mask[near & (share > 0.25)] = 3
    mask[(share > 0.75) & (np.hypot(columns - x, rows - y) < 0.06 * height)] = 1
    mask[:BORDER] = mask[-BORDER:] = mask[:, :BORDER] = mask[:, -BORDER:] = 0
    return mask, (x, y)
