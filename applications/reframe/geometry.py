"""The shape of a crop: an aspect ratio, and the largest window of that shape in a frame."""

from __future__ import annotations

import dataclasses
import re
from typing import Self

from dtfsal.engines.errors import UsageError

_ASPECT = re.compile(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)")
_NARROWEST = 1 / 20
_LEAST_SIDE = 16  # pixels of a window


@dataclasses.dataclass(frozen=True)
class Framing:
    """A frame and the largest window of an aspect ratio in it.

    Attributes:
        source_width: of the frame, in pixels as displayed.
        source_height: of the frame.
        width: of the largest window, in pixels: an even number, also the width of the result.
        height: of the largest window.
    """

    source_width: int
    source_height: int
    width: int
    height: int

    @classmethod
    def of(cls, aspect: float, width: int, height: int, pixel_aspect: tuple[int, int] = (1, 1)) -> Self:
        """The framing for an aspect ratio of the displayed picture.

        Args:
            aspect: width over height, as `parse_aspect` gives it.
            width: of the frame, in pixels.
            height: of the frame, in pixels.
            pixel_aspect: width and height of a displayed pixel, as a ratio.

        Raises:
            UsageError: the window would be smaller than 16 pixels.
        """
        in_pixels = aspect * pixel_aspect[1] / pixel_aspect[0]
        wide, high = (height * in_pixels, height) if width > height * in_pixels else (width, width / in_pixels)
        window = _even(wide, width), _even(high, height)
        if min(window) < _LEAST_SIDE:
            raise UsageError(
                f"a crop of {wide:.0f}x{high:.0f} pixels is too small to see: the video has {width}x{height}; "
                "choose another --aspect"
            )
        return cls(width, height, *window)


def parse_aspect(text: str) -> float:
    """Width over height of an aspect ratio such as "9:16" or "2.39:1".

    Raises:
        UsageError: the text is no such ratio.
    """
    match = _ASPECT.fullmatch(text.strip())
    width, height = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    if not (width and height and _NARROWEST <= width / height <= 1 / _NARROWEST):
        raise UsageError(f"the aspect is a ratio like 9:16, 1:1 or 2.39:1 (at most 20:1), not {text!r}")
    return width / height


def _even(side: float, most: int) -> int:
    """The even number of pixels next to a side, within a frame's."""
    return min(round(side / 2) * 2, most - most % 2)
