"""The OSIE dataset as its authors distribute it, to a folder in dtfsal's layout.

Xu, Jiang, Wang, Kankanhalli & Zhao, "Predicting human gaze beyond pixels", Journal of Vision 14(1):28, 2014. The public
layout is `data/stimuli/*.jpg` (700 pictures, 800x600) and `data/eye/fixations.mat` (a struct per picture: `img`, and
`subjects` with `fix_x`, `fix_y` in pixels and `fix_duration` in ms).
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from dtfsal.engines.errors import UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.training.data.matlab import read_matlab
from dtfsal.training.data.stills import COLUMNS, DataError

WIDTH, HEIGHT = 640, 480
JPEG_QUALITY = 92


def prepare_osie(source: Path, output: Path, *, progress: Callable[[int, int], None] = lambda _done, _all: None) -> int:
    """Convert the public dataset.

    Args:
        source: its folder, or any folder above `stimuli` and `eye`.
        output: the new folder; it must not exist yet.
        progress: told how many pictures of how many are done.

    Returns:
        How many pictures there are.

    Raises:
        DataError: something is missing or not what it should be; nothing is left at `output` then.
        UsageError: `output` exists.
        OutputError: another run makes it.
        UnavailableError: SciPy, which reads the MATLAB file, is not installed.
    """
    if output.exists():
        raise UsageError(f"{output} exists already; choose another place, or remove it")
    table = next(iter(sorted(source.rglob("fixations.mat"))), None)
    stimuli = next((folder for folder in sorted(source.rglob("stimuli")) if folder.is_dir()), None)
    if table is None or stimuli is None:
        raise DataError(f"{source} holds no stimuli/ and eye/fixations.mat; give the folder of the OSIE dataset")
    records = list(_records(table))
    output.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(output) as partial:
        (partial / "images").mkdir()
        with (partial / "fixations.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for done, (name, subjects) in enumerate(records, 1):
                scale_x, scale_y = _shrink(stimuli / name, partial / "images" / name)
                for observer, points in enumerate(subjects):
                    for order, (x, y, duration) in enumerate(points):
                        # MATLAB counts pixels from 1, so its centres are half a pixel from the edges, as ours times 1.
                        px, py = (x - 0.5) * scale_x - 0.5, (y - 0.5) * scale_y - 0.5
                        rows.writerow((name, observer, order, f"{px:.1f}", f"{py:.1f}", f"{duration:.0f}"))
                progress(done, len(records))
        partial.rename(output)
    return len(records)


def _shrink(source: Path, target: Path) -> tuple[float, float]:
    """Write a picture at 640x480; the factors on x and y."""
    try:
        with Image.open(source) as image:
            width, height = image.size
            image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(target, quality=JPEG_QUALITY)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{source} cannot be read as a picture ({error}); restore it from the dataset") from error
    return WIDTH / width, HEIGHT / height


def _records(table: Path) -> Iterator[tuple[str, list[np.ndarray[Any, np.dtype[np.float64]]]]]:
    """Per picture its name and, per observer, (n, 3): x, y and duration."""
    variables = read_matlab(table, squeeze_me=True, struct_as_record=False)
    try:
        pictures = np.atleast_1d(variables["fixations"])
        for picture in pictures:
            subjects = [
                np.stack(
                    [
                        np.atleast_1d(np.asarray(field, np.float64))
                        for field in (subject.fix_x, subject.fix_y, subject.fix_duration)
                    ],
                    axis=1,
                )
                for subject in np.atleast_1d(picture.subjects)
            ]
            yield Path(str(picture.img)).name, subjects
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{table} is not OSIE's fixations.mat ({error}); restore it from the dataset") from error
