"""OSIE, Crowd and Scene as their authors distribute them, or an excerpt of them, to a folder in dtfsal's layout.

Pictures lie in `stimuli/*.jpg`, gaze beside them in `fixations.mat`:

- OSIE and Crowd: `data/stimuli`, `data/eye/fixations.mat`, a struct per picture: `img`, and `subjects` with `fix_x`,
  `fix_y` in pixels that count from 1, and `fix_duration` in ms.
- Scene: `data/stimuli`, `data/tidy/fixations.mat` or `Original/stimuli`, `Original/fix/fixations.mat`, a cell per
  picture (in the order of their names) and observer: rows of y and x in pixels from the picture's edge, latency and
  duration in seconds.

An excerpt is a folder that is in dtfsal's layout already: it is checked and copied, with its pictures as they are.
"""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.engines.errors import UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.training.data.matlab import read_matlab
from dtfsal.training.data.photograph_sets import SCENE, PhotographSet, set_of
from dtfsal.training.data.stills import COLUMNS, PICTURE_ERRORS, DataError, check_pixels, read_stills
from dtfsal.training.data.twins import Twins

LARGEST_WIDTH, LARGEST_HEIGHT = 640, 480
JPEG_QUALITY = 92

# Per picture its file's name and, per observer, rows (n, 3) of x and y in pixels of the file whose first centre is at
# 0.5, and duration in ms.
Records = list[tuple[str, list[npt.NDArray[np.float64]]]]
NO_FIXATIONS = np.empty((0, 3))


def prepare_photographs(
    photographs: PhotographSet,
    source: Path,
    output: Path,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> int:
    """Convert a set.

    Args:
        photographs: which.
        source: its folder, or any folder above `stimuli` and `fixations.mat`; or an excerpt in dtfsal's layout.
        output: the new folder; it must not exist yet.
        progress: told how many pictures of how many are done.

    Returns:
        How many pictures there are.

    Raises:
        DataError: something is missing or not what it should be, or a picture comes twice; nothing is left at `output`
            then.
        UsageError: `output` exists.
        OutputError: another run makes it.
        UnavailableError: SciPy, which reads the MATLAB file, is not installed.
    """
    if output.exists():
        raise UsageError(f"{output} exists already; choose another place, or remove it")
    excerpt = (source / "fixations.csv").is_file() and (source / "images").is_dir()
    table = None if excerpt else next(iter(sorted(source.rglob("fixations.mat"))), None)
    stimuli = next((folder for folder in sorted(source.rglob("stimuli")) if folder.is_dir()), None)
    if not excerpt and (table is None or stimuli is None):
        raise DataError(
            f"{source} holds neither stimuli/ with fixations.mat nor images/ with fixations.csv; "
            f"give the folder of {photographs.title}"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(output) as partial:
        (partial / "images").mkdir()
        if table is None or stimuli is None:
            count = _copy_excerpt(photographs, source, partial, progress)
        else:
            count = _convert(photographs, stimuli, table, partial, progress)
        partial.rename(output)
    return count


def _copy_excerpt(photographs: PhotographSet, source: Path, partial: Path, progress: Callable[[int, int], None]) -> int:
    stills = read_stills(source)
    found = set_of(still.name for still in stills)
    if found != photographs:
        raise DataError(f"{source} holds pictures of {found.title} by their names; prepare it as {found.name}")
    twins = Twins()
    for done, still in enumerate(stills, 1):
        rgb = still.read()
        if not still.density(*rgb.shape[:2]).any():
            raise DataError(f"no fixation on {still.path} lies in the picture; restore both from the dataset")
        twins.add(still.name, rgb)
        shutil.copyfile(still.path, partial / "images" / still.name)
        progress(done, len(stills))
    shutil.copyfile(source / "fixations.csv", partial / "fixations.csv")
    return len(stills)


def _convert(
    photographs: PhotographSet, stimuli: Path, table: Path, partial: Path, progress: Callable[[int, int], None]
) -> int:
    records = _read(photographs, table, stimuli)
    twins = Twins()
    with (partial / "fixations.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for done, (name, subjects) in enumerate(records, 1):
            subjects = [points[np.isfinite(points).all(axis=1)] for points in subjects]  # blinks have no position
            if not any(len(points) for points in subjects):
                raise DataError(f"{table}: nobody looked at {name}; restore it from the dataset")
            ours = f"{photographs.prefix}{Path(name).name}"
            scale_x, scale_y, rgb = _shrink(stimuli / name, partial / "images" / ours)
            twins.add(ours, rgb)
            for observer, points in enumerate(subjects):
                for order, (x, y, duration) in enumerate(points):
                    px, py = x * scale_x - 0.5, y * scale_y - 0.5
                    rows.writerow((ours, observer, order, f"{px:.1f}", f"{py:.1f}", f"{duration:.0f}"))
            progress(done, len(records))
    return len(records)


def _shrink(source: Path, target: Path) -> tuple[float, float, npt.NDArray[np.uint8]]:
    """Write a picture at no more than 640x480, its aspect kept; the factors on x and y, and the picture."""
    try:
        with Image.open(source) as image:
            check_pixels(image)
            width, height = image.size
            share = min(1.0, LARGEST_WIDTH / width, LARGEST_HEIGHT / height)
            small = image.convert("RGB").resize(
                (max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.LANCZOS
            )
            small.save(target, quality=JPEG_QUALITY)
    except PICTURE_ERRORS as error:
        raise DataError(f"{source} cannot be read as a picture ({error}); restore it from the dataset") from error
    return small.width / width, small.height / height, np.asarray(small, np.uint8)


def _read(photographs: PhotographSet, table: Path, stimuli: Path) -> Records:
    """The MATLAB file; whatever is wrong with it is one DataError."""
    by_place = photographs is SCENE
    variables = read_matlab(table) if by_place else read_matlab(table, squeeze_me=True, struct_as_record=False)
    try:
        if by_place:
            names = sorted(path.name for path in stimuli.iterdir() if path.suffix.lower() == ".jpg")
            return _by_place(variables["fixations"], names)
        return _by_name(variables["fixations"])
    except (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{table} is not {photographs.title}'s fixations.mat ({error}); restore it from the dataset"
        ) from error


def _by_name(pictures: Any) -> Records:
    """OSIE's and Crowd's table. MATLAB counts pixels from 1, so the first one's centre is at 1."""
    found = []
    for picture in np.atleast_1d(pictures):
        subjects = []
        for subject in np.atleast_1d(picture.subjects):
            if isinstance(subject, np.ndarray) and not subject.size:
                subjects.append(NO_FIXATIONS)
                continue
            fields = (subject.fix_x, subject.fix_y, subject.fix_duration)
            columns = [np.atleast_1d(np.asarray(field, np.float64)) for field in fields]
            subjects.append(np.stack(columns, axis=1) - [0.5, 0.5, 0])
        found.append((Path(str(picture.img)).name, subjects))
    return found


def _by_place(pictures: Any, names: list[str]) -> Records:
    """Scene's table, a row for each picture in the order of their names."""
    if len(pictures) != len(names):
        raise ValueError(f"it has {len(pictures)} pictures, and stimuli/ has {len(names)}")
    found = []
    for name, observers in zip(names, pictures, strict=True):
        cells = [np.asarray(cell, np.float64) for cell in observers]
        found.append((name, [cell[:, [1, 0, 3]] * [1, 1, 1000] if cell.size else NO_FIXATIONS for cell in cells]))
    return found
