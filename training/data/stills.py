"""Photographs with the places where people looked, from a folder in dtfsal's layout.

    folder/images/*.jpg          the photographs
    folder/fixations.csv         image, observer, order, x, y, duration_ms: pixels of those files, origin top left

`dtfsal prepare` makes such folders from the public layouts of three data sets (`dtfsal.training.data.photograph_sets`).
"""

import contextlib
import csv
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.limits import PICTURE_PIXELS, shown
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.photograph_sets import OSIE, set_of

Points = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]

COLUMNS = ("image", "observer", "order", "x", "y", "duration_ms")
# Of frames of videos whose viewing distance nobody told: OSIE's, where a degree is 19 pixels of a picture 640 wide.
DEGREE_OF_WIDTH = 19 / 640
# What Pillow raises of damaged pictures.
PICTURE_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError)
FARTHEST = 1e9  # pixels from the origin: positions stay finite as float32


class DataError(DtfsalError):
    """A dataset's folder is incomplete or a file of it wrong. Exit code 3."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class Still:
    """A photograph on disk and the fixations on it.

    Attributes:
        name: its file's name.
        path: the file.
        fixations: (n, 2) float32, x and y in pixels of the file.
        observers: (n,) who made each; empty where that is not known.
        degree_of_height: one degree of visual angle as a share of the picture's height.
    """

    name: str
    path: Path
    fixations: Points
    observers: tuple[str, ...] = ()
    degree_of_height: float = OSIE.degree_of_height

    def density(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Where people looked, (height, width) of the picture, blurred by a degree and summing to 1."""
        return fixation_density(self.fixations, height, width, self.degree_of_height * height)

    def read(self) -> Rgb:
        """The picture, (H, W, 3) uint8.

        Raises:
            DataError: it is missing or not a picture.
        """
        with self._opened() as image:
            return np.asarray(image.convert("RGB"), np.uint8)

    def size(self) -> tuple[int, int]:
        """Height and width of the picture, from the head of its file.

        Raises:
            DataError: it is missing or not a picture.
        """
        with self._opened() as image:
            return image.height, image.width

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        try:
            with Image.open(self.path) as image:
                check_pixels(image)
                yield image
        except PICTURE_ERRORS as error:
            raise DataError(
                f"{self.path} cannot be read as a picture ({error}); restore it from the dataset"
            ) from error


def check_pixels(image: Image.Image) -> None:
    """Refuse a picture that is far larger than any of a data set, before it is decoded.

    Raises:
        ValueError: it is.
    """
    if image.width * image.height > PICTURE_PIXELS:
        raise ValueError(f"it says that it has {image.width}x{image.height} pixels")


def read_stills(folder: Path) -> list[Still]:
    """The photographs of a folder that have fixations, by name.

    Raises:
        DataError: the folder lacks a part, a line of the table is wrong, or it names a picture that is not there.
    """
    table, images = folder / "fixations.csv", folder / "images"
    if not images.is_dir() or not table.is_file():
        raise DataError(f"{folder} needs a folder images/ and a file fixations.csv; `dtfsal prepare` makes both")
    points: dict[str, list[tuple[float, float]]] = {}
    observers: dict[str, list[str]] = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise DataError(f"{table} must have the columns {', '.join(COLUMNS)}, not {rows.fieldnames}")
            for row in rows:
                where = f"{table}:{rows.line_num}"
                if not row["observer"]:
                    raise DataError(f"{where}: the observer is missing")
                points.setdefault(row["image"], []).append(_point(row, where))
                observers.setdefault(row["image"], []).append(row["observer"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}); make it again") from error
    if not points:
        raise DataError(f"{table} holds no fixation; make it again")
    for name in points:
        if not _is_in(images, name):
            raise DataError(f"{table} names {shown(name)}, which is not in {images}; restore it from the dataset")
    degree = set_of(points).degree_of_height
    return [
        Still(name, images / name, np.array(points[name], np.float32), tuple(observers[name]), degree)
        for name in sorted(points)
    ]


def split_stills(stills: Sequence[Still]) -> dict[str, list[Still]]:
    """A set's photographs in "train", "validation" and, but for OSIE, "test", by the split that is fixed in a file.

    Photographs that the file does not name belong to none.

    Raises:
        DataError: a photograph of the split is not there.
    """
    photographs = set_of(still.name for still in stills)
    by_name = {PurePath(still.name).stem: still for still in stills}
    splits = photographs.split_names()
    for name in (name for names in splits.values() for name in names):
        if name not in by_name:
            raise DataError(
                f"the photograph {name} of the split is not in the folder; prepare all of {photographs.title}"
            )
    return {split: [by_name[name] for name in names] for split, names in splits.items()}


def _is_in(folder: Path, name: str) -> bool:
    """Whether a folder itself holds a file of this name."""
    try:
        return Path(name).name == name and (folder / name).is_file()
    except OSError:  # the name is too long
        return False


def _point(row: dict[str, str | None], where: str) -> tuple[float, float]:
    try:
        x, y = float(row["x"] or ""), float(row["y"] or "")
    except (TypeError, ValueError):
        x = y = math.nan
    if not (abs(x) <= FARTHEST and abs(y) <= FARTHEST):  # also where one is NaN
        raise DataError(f"{where}: x and y must be numbers, not {row['x']!r} and {row['y']!r}")
    return x, y
