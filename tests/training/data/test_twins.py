"""One photograph under two names is refused, whatever was done to it; different photographs are not."""

import io

import numpy as np
import pytest
from PIL import Image

from dtfsal.training.data.stills import DataError
from dtfsal.training.data.twins import Twins, fingerprint


def photograph(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)


def recompressed(image):
    file = io.BytesIO()
    image.save(file, "jpeg", quality=30)
    return Image.open(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize((640, 480)),
        lambda image: image.resize((300, 300)),
        lambda image: image.crop((4, 4, 394, 296)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.point(lambda value: 0.7 * value + 30),
        lambda image: image.convert("L").convert("RGB"),
        recompressed,
    ],
)
def test_a_photograph_is_known_again(change):
    twins = Twins()
    for seed in range(5):
        twins.add(f"{seed}", np.asarray(photograph(seed)))
    with pytest.raises(DataError, match="again and 3 are the same picture"):
        twins.add("again", np.asarray(change(photograph(3)).convert("RGB")))
    twins.add("other", np.asarray(photograph(9)))


def test_pictures_of_one_colour_are_twins_only_if_they_are_equal():
    twins = Twins()
    for value in (10, 200):
        twins.add(f"{value}", np.full((20, 30, 3), value, np.uint8))
    with pytest.raises(DataError, match="same and 10 are"):
        twins.add("same", np.full((20, 30, 3), 10, np.uint8))
    assert not fingerprint(np.full((20, 30, 3), 10, np.uint8)).any()
