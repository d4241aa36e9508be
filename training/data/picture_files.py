"""Pictures of a dataset: frames, ground-truth maps and fixation maps, whatever they were saved as."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.engines.limits import PICTURE_PIXELS
from dtfsal.training.data.matlab import read_matlab
from dtfsal.training.data.stills import PICTURE_ERRORS, DataError, Points, Rgb, check_pixels

Floats = npt.NDArray[np.float32]
# The variables of MATLAB's fixation maps: of the audio-visual sets, and of DHF1K and UCF-Sports.
MAT_KEYS = ("eyeMap", "I")


def read_rgb(path: Path) -> Rgb:
    """A frame, (H, W, 3) uint8.

    Raises:
        DataError: it is missing or not a picture.
    """
    with opened_picture(path) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def read_map(path: Path) -> Floats:
    """A ground-truth map, (h, w), not negative, on the file's own scale; a coloured one is turned to grey.

    Raises:
        DataError: it is missing or not a picture.
    """
    with opened_picture(path) as image:
        deep = image.mode.startswith(("I", "F"))  # 16 and 32 bits, which a conversion to "L" would clip
        return np.maximum(np.asarray(image if deep else image.convert("L"), np.float32), 0)


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width, from the head of the file.

    Raises:
        DataError: it is missing or not a picture.
    """
    with opened_picture(path) as image:
        return image.height, image.width


def read_fixation_map(path: Path) -> Floats:
    """A fixation map, (h, w): a MATLAB file or a picture.

    Raises:
        DataError: it is missing or not what it should be.
        UnavailableError: SciPy, which reads MATLAB files, is not installed.
    """
    return _read_mat(path) if path.suffix.lower() == ".mat" else read_map(path)


def fixated_points(fixation_map: Floats, size: tuple[int, int]) -> Points:
    """The fixated pixels of a map (h, w), as (n, 2) x and y in pixels of a frame of `size` (height, width).

    A pixel is fixated if it holds more than half of the map's largest value: pictures hold 0 and 1, or 0 and 255, and
    lossy ones something near.
    """
    peak = float(fixation_map.max(initial=0))
    if not peak > 0:
        return np.empty((0, 2), np.float32)
    rows, columns = np.nonzero(fixation_map > peak / 2)
    scale = np.array([size[1] / fixation_map.shape[1], size[0] / fixation_map.shape[0]])
    # Pixel centres are at integers.
    return ((np.stack((columns, rows), axis=1) + 0.5) * scale - 0.5).astype(np.float32)


@contextlib.contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """A picture opened to be decoded within the block.

    Raises:
        DataError: it is missing or damaged; also when it is decoded.
    """
    try:
        with Image.open(path) as image:
            check_pixels(image)
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; restore it from the dataset") from error
    except PICTURE_ERRORS as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); restore it from the dataset") from error


def _read_mat(path: Path) -> Floats:
    variables = read_matlab(path)
    key = next((key for key in MAT_KEYS if key in variables), None)
    if key is None:
        names = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        raise DataError(f"{path} holds no variable {' or '.join(MAT_KEYS)}, but {names}; restore it")
    found = variables[key]
    if len(found.shape) != 2 or min(found.shape) < 1 or math.prod(found.shape) > PICTURE_PIXELS:
        raise DataError(f"{path}: {key} must be a map (h, w), not {found.shape}; restore it from the dataset")
    try:
        values = np.zeros(found.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            if hasattr(found, "indptr"):  # sparse; SciPy would believe its indices
                values[found.indices, np.repeat(np.arange(found.shape[1]), np.diff(found.indptr))] = found.data
            else:
                values[:] = found
            return np.nan_to_num(np.maximum(values, 0))
    except (ValueError, TypeError, IndexError, AttributeError, np.exceptions.ComplexWarning) as error:
        raise DataError(f"{path}: {key} is no map of numbers ({error}); restore it from the dataset") from error
