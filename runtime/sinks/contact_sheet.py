"""A contact sheet: a few frames of a video side by side, each with its overlay, its map and its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.preprocess import Rgb, resize_frame
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.predict.maps import Normalisation
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.sinks.render import grey_picture, overlay

_CELL_WIDTH = 320
_MAX_CELL_HEIGHT = 480
_GAP = 8
_KEPT_PER_COLUMN = 8
_LABEL_HEIGHT = 26
_BACKGROUND = (24, 24, 24)
_TEXT = (230, 230, 230)


class ContactSheet:
    """Collects frames evenly over a video whose length is not known, and draws them.

    Only every 2^k-th frame is kept, with k growing so that at most eight times the wanted number is held: memory does
    not grow with the video.

    Args:
        columns: frames on the sheet; fewer if the video has fewer.
        normalisation: how maps are scaled for the pictures.
        pixel_aspect: width and height of a frame's pixel, as a ratio; on the sheet pixels are square.
    """

    def __init__(
        self, columns: int = 6, normalisation: Normalisation = "max", *, pixel_aspect: tuple[int, int] = (1, 1)
    ) -> None:
        if type(columns) is not int or not 1 <= columns <= 100:
            raise UsageError(f"a contact sheet has 1 to 100 columns, not {columns!r}")
        self._columns = columns
        self._normalisation = normalisation
        self._pixel_aspect = pixel_aspect[0] / pixel_aspect[1]
        self._step = 1
        self._count = 0
        self._cells: list[tuple[float, Rgb, npt.NDArray[np.float32]]] = []

    def add(self, frame: SaliencyFrame, rgb: Rgb) -> None:
        """Take a map and its frame, (H, W, 3) uint8; all of a video's, in order."""
        number, self._count = self._count, self._count + 1
        if number % self._step:
            return
        if len(self._cells) == _KEPT_PER_COLUMN * self._columns:
            self._cells = self._cells[::2]
            self._step *= 2
            if number % self._step:
                return
        height, width = rgb.shape[0], rgb.shape[1] * self._pixel_aspect
        scale = min(_CELL_WIDTH / width, _MAX_CELL_HEIGHT / height)
        small = resize_frame(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
        self._cells.append((frame.time_seconds, small, frame.saliency_map.copy()))

    def draw(self) -> Rgb:
        """The sheet, (H, W, 3) uint8: a row of frames, a row of overlays, a row of maps, times below.

        Raises:
            MediaError: no frame has come.
        """
        from PIL import Image, ImageDraw

        if not self._cells:
            raise MediaError("there is no frame to put on the contact sheet")
        count = min(self._columns, len(self._cells))
        # The middles of `count` equal parts of what is kept.
        picked = [self._cells[int((part + 0.5) * len(self._cells) / count)] for part in range(count)]
        height, width = picked[0][1].shape[:2]
        rows = ("source", "overlay", "saliency")
        margin = 76
        sheet = Image.new(
            "RGB",
            (margin + count * (width + _GAP) + _GAP, len(rows) * (height + _GAP) + _GAP + _LABEL_HEIGHT),
            _BACKGROUND,
        )
        draw = ImageDraw.Draw(sheet)
        font = _font(15)
        for row, name in enumerate(rows):
            draw.text((_GAP, _GAP + row * (height + _GAP) + height / 2), name, fill=_TEXT, font=font, anchor="lm")
        for column, (time_seconds, rgb, saliency_map) in enumerate(picked):
            left = margin + _GAP + column * (width + _GAP)
            pictures = (
                rgb,
                overlay(rgb, saliency_map, normalisation=self._normalisation),
                grey_picture(saliency_map, rgb.shape[0], rgb.shape[1], self._normalisation),
            )
            for row, picture in enumerate(pictures):
                sheet.paste(Image.fromarray(picture), (left, _GAP + row * (height + _GAP)))
            below = len(rows) * (height + _GAP) + _LABEL_HEIGHT / 2
            draw.text((left + width / 2, below), f"{time_seconds:.2f} s", fill=_TEXT, font=font, anchor="mm")
        return np.asarray(sheet)

    def save(self, path: Path) -> None:
        """Draw the sheet into a PNG file."""
        from PIL import Image

        Image.fromarray(self.draw()).save(path, format="PNG")


def _font(size: int) -> Any:
    """Pillow's own font; a scalable one where Pillow has FreeType."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
