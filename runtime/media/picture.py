"""Decoded pictures as they are displayed: upright, in RGB, with what is known of their colours."""

import dataclasses
import io
import math
import struct
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.raw_inputs import Matrix, YuvPicture
from dtfsal.runtime.media.container import refuse_if_short
from dtfsal.runtime.media.errors import MediaError

Rgb = npt.NDArray[np.uint8]

# FFmpeg's names of 8-bit 4:2:0 in planes of their own, and whether levels run from 0 to 255.
_YUV_FORMATS = {"yuv420p": False, "yuvj420p": True}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
# Code points of ITU-T H.273, as all numbers of colours here.
UNSPECIFIED = 2
RGB, BT709, YCGCO, BT2020, BT2020_CL = 0, 1, 8, 9, 10
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
# FFmpeg takes BT.601 where nothing is said.
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    2: "bt601",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
}
_NAMES = {
    RGB: "RGB",
    **_MATRICES,
    UNSPECIFIED: "not stated",
    YCGCO: "YCgCo",
    BT2020_CL: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    12: "matrix derived from primaries",
    13: "matrix derived from primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}


# By the values of EXIF's tag 274: quarter turns, and whether mirrored.
_BY_EXIF = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}


@dataclasses.dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned for display.

    Attributes:
        quarter_turns: counter-clockwise, 0 to 3.
        mirrored: whether it is mirrored left to right after that.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @classmethod
    def of(cls, picture: Any, encoded: bytes = b"") -> Self:
        """A decoded frame's, by its display matrix, which FFmpeg makes of EXIF orientations, too.

        Args:
            picture: PyAV's frame.
            encoded: what it was decoded from. PyAV does not give the matrix of a frame that brings EXIF along.
        """
        try:
            matrix = picture.side_data.get("DISPLAYMATRIX")
        except ValueError:  # a kind of side data that this version of PyAV does not know
            exif = _exif_orientation(encoded)
            return cls(*_BY_EXIF[exif]) if exif in _BY_EXIF else cls(round(picture.rotation / 90) % 4)
        if matrix is None:
            return cls(round(picture.rotation / 90) % 4)
        # A stored point (p, q), y downwards, is shown at (a p + c q, b p + d q).
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])
        mirrored = a * d - b * c < 0
        if mirrored:
            a = -a
        return cls(round(-math.atan2(b, a) / (math.pi / 2)) % 4, mirrored)

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.quarter_turns % 2 == 1

    def displayed_aspect(self, stream: Any) -> tuple[int, int]:
        """Width and height of a displayed pixel of PyAV's video stream, as a ratio: (1, 1) for square ones."""
        aspect = stream.sample_aspect_ratio
        if not aspect or aspect <= 0:
            return 1, 1
        width, height = int(aspect.numerator), int(aspect.denominator)
        return (height, width) if self.swaps_sides else (width, height)

    def apply(self, rgb: Rgb) -> Rgb:
        """A stored picture, (H, W, 3), as it is displayed; a view."""
        turned = np.rot90(rgb, self.quarter_turns)
        return turned[:, ::-1] if self.mirrored else turned


@dataclasses.dataclass(frozen=True)
class Colours:
    """What a picture's numbers mean, as code points of ITU-T H.273; 2 is "not stated".

    Attributes:
        matrix: of luma and chroma to RGB; 0 is RGB itself.
        primaries: red, green, blue and white.
        transfer: from numbers to light.
        full_range: whether levels run from 0 to 255, instead of 16 to 235.
    """

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False

    @classmethod
    def of(cls, picture: Any) -> Self:
        """A decoded frame's."""
        return cls(
            int(picture.colorspace),
            int(getattr(picture, "color_primaries", UNSPECIFIED)),
            int(getattr(picture, "color_trc", UNSPECIFIED)),
            int(picture.color_range) == FULL_RANGE or picture.format.name.startswith("yuvj"),
        )

    @property
    def hdr(self) -> str | None:
        """The name of a transfer for high dynamic range, else None."""
        return HDR_TRANSFERS.get(self.transfer)

    @property
    def matrix_name(self) -> str:
        """The matrix for people."""
        return _NAMES.get(self.matrix, f"matrix {self.matrix}")

    @property
    def is_guessed(self) -> bool:
        """Whether `to_rgb` reads the matrix as another one."""
        return self.matrix not in (RGB, YCGCO, BT2020_CL, *_MATRICES)

    def written(self) -> "Colours":
        """The colours to write a video of this source in: its own, where an encoder takes them.

        A source that says nothing stays so: it is read by the same matrix as it is written.
        """
        if self.matrix in _MATRICES:
            return self
        if self.matrix in (RGB, YCGCO):
            told = [BT709 if value == UNSPECIFIED else value for value in (self.primaries, self.transfer)]
            return Colours(BT709, told[0], told[1], False)
        return dataclasses.replace(self, matrix=BT2020)


def to_rgb(picture: Any, path: object) -> Rgb:
    """A decoded frame as it is stored, (H, W, 3) uint8.

    Raises:
        MediaError: its kind of pixels cannot be converted.
    """
    matrix = int(picture.colorspace)
    try:
        if matrix == YCGCO:
            return _from_ycgco(*_planes(picture))
        if matrix == BT2020_CL:
            return _from_constant_luminance(*_planes(picture))
        if matrix not in _MATRICES and matrix != RGB:
            picture.colorspace = BT2020  # the nearest that FFmpeg reads: most such sources have its primaries
        return np.asarray(picture.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        refuse_if_short(error, starting_threads=True)
        raise MediaError(
            f"{path}: pixels of the kind {picture.format.name} cannot be converted to RGB ({error}); convert the video "
            "first, e.g. with `ffmpeg -i VIDEO -pix_fmt yuv420p OTHER.mp4`"
        ) from error


def yuv_picture(picture: Any) -> YuvPicture | None:
    """A decoded picture's planes, without a copy where that can be, or None if it is not 4:2:0 of 8 bits.

    Pictures of odd size and rare colours are left to FFmpeg too, which treats them in ways of its own.
    """
    full = _YUV_FORMATS.get(picture.format.name)
    matrix = _MATRICES.get(int(picture.colorspace))
    if full is None or matrix is None or picture.width % 2 or picture.height % 2:
        return None
    if int(picture.color_range) == FULL_RANGE:
        full = True
    halves = (1, 2, 2)
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: picture.height // half, : picture.width // half]
        for plane, half in zip(picture.planes, halves, strict=True)
    )
    return YuvPicture(y, u, v, matrix, full)


def _exif_orientation(encoded: bytes) -> int | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            value = image.getexif().get(274)
            return value if isinstance(value, int) else None
    except (OSError, ValueError, SyntaxError):  # not a picture file
        return None


def _planes(picture: Any) -> list[npt.NDArray[np.float32]]:
    """Luma in [0, 1] and the two chromas in [-0.5, 0.5], each (H, W); FFmpeg only enlarges the chroma."""
    full = Colours.of(picture).full_range
    picture.colorspace = UNSPECIFIED  # the same before and after, so that no matrix is applied
    levels = picture.reformat(format="yuvj444p" if full else "yuv444p").to_ndarray().astype(np.float32)
    black, white, chroma = (0.0, 255.0, 255.0) if full else (16.0, 219.0, 224.0)
    return [(levels[0] - black) / white, (levels[1] - 128) / chroma, (levels[2] - 128) / chroma]


def _from_ycgco(y: npt.NDArray[np.float32], cg: npt.NDArray[np.float32], co: npt.NDArray[np.float32]) -> Rgb:
    return _levels(y - cg + co, y + cg, y - cg - co)


def _from_constant_luminance(
    y: npt.NDArray[np.float32], cb: npt.NDArray[np.float32], cr: npt.NDArray[np.float32]
) -> Rgb:
    """ITU-R BT.2020, table 4: luma is coded luminance, and green is what red and blue leave of it."""
    blue = y + cb * np.where(cb < 0, 1.9404, 1.5816)
    red = y + cr * np.where(cr < 0, 1.7184, 0.9936)
    green_light = (_light(y) - 0.2627 * _light(red) - 0.0593 * _light(blue)) / 0.6780
    bounded = np.clip(green_light, 0, 1)
    green = np.where(bounded < 0.0181, 4.5 * bounded, 1.0993 * bounded**0.45 - 0.0993)
    return _levels(red, green, blue)


def _light(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    bounded = np.clip(values, 0, 1)
    light = np.where(bounded < 4.5 * 0.0181, bounded / 4.5, ((bounded + 0.0993) / 1.0993) ** (1 / 0.45))
    return np.asarray(light)


def _levels(*channels: npt.NDArray[Any]) -> Rgb:
    return np.asarray(np.rint(np.clip(np.stack(channels, axis=-1), 0, 1) * 255), np.uint8)
