"""What scenes are made of: photographs and cut-outs, from folders and from installed packages."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, UnidentifiedImageError

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.photograph_sets import OSIE
from dtfsal.training.data.stills import DataError, Still

Rgb = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Photographs that packages carry, found without importing them.
INSTALLED = {"skimage": "data", "sklearn": "datasets/images"}
LEAST_SIDE = 200  # pixels; smaller pictures make poor backgrounds
LARGEST_SIDE = 1024
POINTS_WITHOUT_GAZE = 60


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph, and where people looked in it.

    Attributes:
        name: for people.
        rgb: (H, W, 3) uint8.
        points: (n, 2) float32, fixations as x and y in its pixels; where nobody looked at it, places of high contrast.
        looked_at: whether the points are fixations.
        degree_of_height: one degree of visual angle as a share of its height.
    """

    name: str
    rgb: Rgb
    points: Points
    looked_at: bool = True
    degree_of_height: float = OSIE.degree_of_height

    @classmethod
    def of(cls, still: Still) -> "Photograph":
        """A photograph on disk, read."""
        return cls(still.name, still.read(), still.fixations, degree_of_height=still.degree_of_height)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A thing cut out of its picture.

    Attributes:
        name: for people.
        rgba: (h, w, 4) uint8 with alpha.
        gaze: where people look at it, x and y as shares of its width and height; its head, where nobody was asked.
    """

    name: str
    rgba: Rgb
    gaze: tuple[float, float] = (0.5, 0.25)


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a world is made of.

    Attributes:
        photographs: backgrounds, at least one; things are also cut out of them.
        cutouts: further things.
    """

    photographs: tuple[Photograph, ...]
    cutouts: tuple[Cutout, ...] = ()

    def __post_init__(self) -> None:
        if not self.photographs:
            raise UsageError("a synthetic world needs at least one photograph; give a folder of pictures")


def photograph(name: str, rgb: Rgb) -> Photograph:
    """A photograph nobody has looked at: it gets the most contrasting places instead of fixations."""
    return Photograph(name, rgb, contrast_points(rgb), looked_at=False)


def photographs_from_folder(folder: Path) -> list[Photograph]:
    """The pictures directly in a folder, by name, shrunk to at most 1024 pixels a side.

    Raises:
        DataError: there are none that can be read, or one is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of photographs")
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            rgb = np.asarray(_open(path).convert("RGB"), np.uint8)
            if min(rgb.shape[:2]) >= LEAST_SIDE:
                found.append(photograph(path.name, rgb))
    if not found:
        raise DataError(f"{folder} holds no photograph of at least {LEAST_SIDE} pixels a side (.jpg, .png)")
    return found


def installed_photographs() -> list[Photograph]:
    """Colour photographs that installed packages carry (scikit-image, scikit-learn); empty where there are none."""
    found = []
    for package, folder in INSTALLED.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            paths = [path for path in sorted((Path(place) / folder).glob("*")) if _is_photograph(path)]
            found += [photograph(path.name, np.asarray(_open(path), np.uint8)) for path in paths]
    return found


def cutouts_from_folder(folder: Path) -> list[Cutout]:
    """The pictures with transparency anywhere below a folder, by path, trimmed to what can be seen.

    Raises:
        DataError: there are none, or one is damaged.
    """
    found = []
    for path in sorted(folder.rglob("*.png")):
        image = _open(path)
        if image.mode in ("RGBA", "LA", "P") and (box := image.convert("RGBA").getchannel("A").getbbox()):
            rgba = np.asarray(image.convert("RGBA").crop(box), np.uint8)
            if min(rgba.shape[:2]) >= 32 and (rgba[:, :, 3] < 128).mean() > 0.02:
                found.append(Cutout(path.stem, rgba))
    if not found:
        raise DataError(f"{folder} holds no .png pictures with transparent parts")
    return found


def contrast_points(rgb: Rgb) -> Points:
    """(n, 2) places drawn by local contrast and closeness to the centre, the same for the same picture."""
    small = Image.fromarray(rgb).convert("L").resize((32, 24), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    mean = np.asarray(small.filter(ImageFilter.GaussianBlur(2)), np.float32)
    y, x = np.linspace(-1.5, 1.5, 24)[:, None], np.linspace(-1.5, 1.5, 32)
    weight = ((grey - mean) ** 2 + 1) * np.exp(-0.5 * (y * y + x * x))
    rng = np.random.default_rng(0)
    cells = rng.choice(weight.size, POINTS_WITHOUT_GAZE, p=(weight / weight.sum()).ravel())
    places = np.stack((cells % 32, cells // 32), axis=1) + rng.random((POINTS_WITHOUT_GAZE, 2))
    return (places * [rgb.shape[1] / 32, rgb.shape[0] / 24] - 0.5).astype(np.float32)


def all_photographs(folders: Sequence[Path]) -> list[Photograph]:
    """Those of the folders, or where no folder is given, those of installed packages.

    Raises:
        DataError: there are none.
    """
    found = [item for folder in folders for item in photographs_from_folder(folder)] or installed_photographs()
    if not found:
        raise DataError("there are no photographs: name a folder, or run `pip install scikit-image scikit-learn`")
    return found


def _is_photograph(path: Path) -> bool:
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return False
    image = _open(path)
    return image.mode == "RGB" and min(image.size) >= LEAST_SIDE


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))
            image.load()
            image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
            return image
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); remove it or restore it") from error
