"""Photographs with the places where people looked, from a folder in dtfsal's layout.

    folder/images/*.jpg          the photographs
    folder/fixations.csv         image, observer, order, x, y, duration_ms: pixels of those files, origin top left

`dtfsal prepare osie` makes such a folder from the OSIE dataset (Xu et al. 2014).
"""

import contextlib
import csv
import dataclasses
import importlib.resources
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.limits import PICTURE_PIXELS, shown

Points = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]

COLUMNS = ("image", "observer", "order", "x", "y", "duration_ms")
# OSIE's viewing distance: a degree is 19 pixels of a picture 640 wide.
DEGREE_OF_WIDTH = 19 / 640
SPLITS = ("train", "validation")
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
    """

    name: str
    path: Path
    fixations: Points

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
        raise DataError(f"{folder} needs a folder images/ and a file fixations.csv; `dtfsal prepare osie` makes both")
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise DataError(f"{table} must have the columns {', '.join(COLUMNS)}, not {rows.fieldnames}")
            for row in rows:
                points.setdefault(row["image"], []).append(_point(row, f"{table}:{rows.line_num}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}); make it again") from error
    for name in points:
        if not _is_in(images, name):
            raise DataError(f"{table} names {shown(name)}, which is not in {images}; restore it from the dataset")
    return [Still(name, images / name, np.array(points[name], np.float32)) for name in sorted(points)]


def split_stills(stills: list[Still]) -> dict[str, list[Still]]:
    """OSIE's photographs in "train" and "validation", by the split that is fixed in `osie_split.json`.

    Photographs that the file does not name belong to neither.

    Raises:
        DataError: a photograph of the split is not there.
    """
    names = json.loads(importlib.resources.files("dtfsal.training.data").joinpath("osie_split.json").read_text())
    by_name = {still.name: still for still in stills}
    for name in (name for split in SPLITS for name in names[split]):
        if name not in by_name:
            raise DataError(f"the photograph {name} of the split is not in the folder; prepare all of OSIE")
    return {split: [by_name[name] for name in names[split]] for split in SPLITS}


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
