import numpy as np
import pytest
from PIL import Image

from dtfsal.training.data.stills import DataError
from dtfsal.training.synthetic import all_photographs, cutouts_from_folder, photograph, sources


def save(path, height=220, width=260, mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    if mode == "RGBA":
        values[:, : width // 2, 3], values[:, width // 2 :, 3] = 0, 255
    Image.fromarray(values, mode).save(path)


def test_photographs_come_by_name_and_large_ones_shrink(tmp_path):
    save(tmp_path / "b.png")
    save(tmp_path / "a.jpg", 700, 1500)
    save(tmp_path / "small.png", 100, 100)
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = all_photographs([tmp_path])
    assert (first.name, second.name) == ("a.jpg", "b.png")
    assert max(first.rgb.shape) <= 1024
    assert second.rgb.shape == (220, 260, 3)


def test_without_folder_and_packages_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(sources, "INSTALLED", {"no_such_package_here": "data"})
    with pytest.raises(DataError, match="pip install"):
        all_photographs([])


def test_installed_photographs_are_found_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "pictured"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    save(package / "data" / "view.png")
    save(package / "data" / "clear.png", mode="RGBA")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "INSTALLED", {"pictured": "data"})
    assert [item.name for item in sources.installed_photographs()] == ["view.png"]


def test_cutouts_are_trimmed_and_opaque_pictures_left_out(tmp_path):
    (tmp_path / "animals").mkdir()
    save(tmp_path / "animals" / "dog.png", 80, 120, "RGBA")
    save(tmp_path / "view.png")
    with pytest.raises(DataError, match="transparent"):
        cutouts_from_folder(tmp_path / "nowhere")
    # Half of the picture is clear; what is left has no clear part, so it is a box and no cut-out.
    with pytest.raises(DataError, match="transparent"):
        cutouts_from_folder(tmp_path)
    rgba = np.zeros((90, 90, 4), np.uint8)
    y, x = np.mgrid[:90, :90]
    rgba[np.hypot(x - 45, y - 45) < 30] = (200, 60, 20, 255)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "animals" / "ball.png")
    (cutout,) = cutouts_from_folder(tmp_path)
    assert cutout.name == "ball"
    assert cutout.rgba.shape == (59, 59, 4)


def test_contrast_stands_for_fixations_where_nobody_looked():
    rgb = np.full((240, 320, 3), 128, np.uint8)
    rgb[100:140, 200:240:4] = 255
    item = photograph("stripes", rgb)
    assert np.array_equal(item.points, photograph("again", rgb).points)
    on = ((item.points > (180, 80)) & (item.points < (260, 160))).all(axis=1)
    assert on.mean() > 0.3  # the stripes cover 2 % of the picture
