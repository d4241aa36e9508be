"""A page of pictures: frames, where people looked, and what predictors say, side by side."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dtfsal.training.evaluation.evaluate import Example

CELL_WIDTH, GAP, LABEL_HEIGHT = 240, 6, 18
OPACITY = 0.75  # of the heat where a map is largest
BACKGROUND, TEXT = (24, 24, 24), (230, 230, 230)
# Dark red, orange, yellow, white: a scale that grows in brightness.
HEAT = np.array([(70, 0, 20), (200, 40, 10), (250, 160, 20), (255, 255, 190)], np.float32)

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def draw_page(examples: Sequence[Example]) -> Image.Image:
    """One line for each example; a column each for the frame, the gaze and every predictor of any example."""
    predictors = list(dict.fromkeys(name for example in examples for name in example.maps))
    columns = ["frame", "gaze", *predictors]
    heights = [round(CELL_WIDTH * example.frame.shape[0] / example.frame.shape[1]) for example in examples]
    width = GAP + len(columns) * (CELL_WIDTH + GAP)
    page = Image.new("RGB", (width, GAP + LABEL_HEIGHT + sum(h + LABEL_HEIGHT + GAP for h in heights)), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(columns):
        draw.text((GAP + column * (CELL_WIDTH + GAP), GAP), name, fill=TEXT)
    y = GAP + LABEL_HEIGHT
    for example, height in zip(examples, heights, strict=True):
        draw.text((GAP, y + 2), example.title, fill=TEXT)
        y += LABEL_HEIGHT
        cells = {"frame": example.frame, "gaze": heat_overlay(example.frame, example.density)}
        cells |= {name: heat_overlay(example.frame, saliency_map) for name, saliency_map in example.maps.items()}
        for name, cell in cells.items():
            picture = Image.fromarray(cell).resize((CELL_WIDTH, height), Image.Resampling.BILINEAR)
            page.paste(picture, (GAP + columns.index(name) * (CELL_WIDTH + GAP), y))
        y += height + GAP
    return page


def heat_overlay(frame: Rgb, saliency_map: Floats) -> Rgb:
    """A map (H, W), scaled to a largest value of 1, over a darkened frame (H, W, 3)."""
    share = np.clip(saliency_map / max(float(saliency_map.max()), 1e-12), 0, 1)
    position = share * (len(HEAT) - 1)
    below = np.minimum(position.astype(np.intp), len(HEAT) - 2)
    colour = HEAT[below] + (position - below)[:, :, None] * (HEAT[below + 1] - HEAT[below])
    opacity = OPACITY * share[:, :, None]
    return np.asarray(0.7 * frame * (1 - opacity) + colour * opacity, np.uint8)
