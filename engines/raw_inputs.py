"""What an engine may be given in the place of its inputs: decoded pictures, and samples with their log-mel tables."""

import dataclasses
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError

Plane: TypeAlias = npt.NDArray[np.uint8]
Matrix = Literal["bt601", "bt709", "fcc", "smpte240m", "bt2020"]
MATRICES: tuple[Matrix, ...] = get_args(Matrix)


@dataclasses.dataclass(frozen=True)
class YuvPicture:
    """A picture whose colour has half its resolution (4:2:0), 8 bits a value. Rows may lie apart.

    Attributes:
        y: (H, W).
        u: (ceil(H / 2), ceil(W / 2)); a plane, or every second value of NV12's.
        v: likewise.
        matrix: of the colours.
        full_range: levels of 0 to 255, and not 16 to 235.
    """

    y: Plane
    u: Plane
    v: Plane
    matrix: Matrix = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        height, width = self.y.shape if self.y.ndim == 2 else (0, 0)
        half = ((height + 1) // 2, (width + 1) // 2)
        planes = (self.y, self.u, self.v)
        if 0 in (height, width) or any(plane.dtype != np.uint8 for plane in planes):
            raise UsageError("a YUV picture's planes must be (H, W) uint8, not empty")
        if self.u.shape != half or self.v.shape != half:
            raise UsageError(f"a {width}x{height} picture's colour must be {half}, not {self.u.shape}, {self.v.shape}")
        if self.matrix not in MATRICES:
            raise UsageError(f"a matrix must be one of {', '.join(MATRICES)}, not {self.matrix!r}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.y.shape[0], self.y.shape[1]


# (H, W, 3) uint8 RGB, or YUV.
Picture: TypeAlias = Plane | YuvPicture


def planes_of(picture: Picture) -> tuple[Plane, ...]:
    """What must be uploaded of a picture, each (rows, bytes) and contiguous.

    Raises:
        UsageError: it is neither RGB nor YUV of 8 bits.
    """
    if isinstance(picture, YuvPicture):
        return tuple(np.ascontiguousarray(plane) for plane in (picture.y, picture.u, picture.v))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise UsageError(f"a frame must be (H, W, 3) uint8 RGB, not {picture.shape} {picture.dtype}")
    return (np.ascontiguousarray(picture).reshape(picture.shape[0], -1),)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SliceTables:
    """What turns samples into log-mel.

    Attributes:
        samples: of a slice.
        frames: of its DFT.
        hop_length: samples from one to the next.
        window: (window_length,) float64.
        filters: (fft_length / 2 + 1, bands) float32.
        log_offset: under the logarithm.
        height: of the resized slice; time.
        width: of the resized slice; pitch.
    """

    samples: int
    frames: int
    hop_length: int
    window: npt.NDArray[np.float64]
    filters: npt.NDArray[np.float32]
    log_offset: float
    height: int
    width: int

    @property
    def fft_length(self) -> int:
        """Points of the DFT."""
        return 2 * (len(self.filters) - 1)
