"""Folders of photographs with fixations: read and split; what is wrong is named."""

import numpy as np
import pytest
from PIL import Image

from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.photograph_sets import CROWD, OSIE, SCENE, SETS, set_of
from dtfsal.training.data.stills import DataError, Still, read_stills, split_stills

TABLE = "image,observer,order,x,y,duration_ms\nb.jpg,0,0,3.5,4,200\na.jpg,0,0,1,2,200\nb.jpg,1,0,7,8,90\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (20, 10), (200, 10, 10)).save(tmp_path / "images" / name)
    (tmp_path / "fixations.csv").write_text(TABLE)
    return tmp_path


def test_stills_are_read_by_name(folder):
    first, second = read_stills(folder)
    assert (first.name, second.name) == ("a.jpg", "b.jpg")
    np.testing.assert_array_equal(second.fixations, [[3.5, 4], [7, 8]])
    assert first.read().shape == (10, 20, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "fixations.csv").unlink(), "needs a folder images/ and a file fixations.csv"),
        (lambda f: (f / "fixations.csv").write_text("image,x,y\n"), "must have the columns"),
        (lambda f: (f / "fixations.csv").write_text(TABLE + "a.jpg,0,1,far,2,3\n"), r":5: x and y must be numbers"),
        (lambda f: (f / "fixations.csv").write_text(TABLE + "a.jpg,0,1,inf,2,3\n"), "must be numbers"),
        (lambda f: (f / "fixations.csv").write_text(TABLE + "a.jpg,0\n"), "must be numbers"),
        (lambda f: (f / "fixations.csv").write_bytes(b"\xff\xfe" + TABLE.encode()), "cannot be read as a table"),
        (lambda f: (f / "fixations.csv").write_text(TABLE + "a.jpg,,1,1,2,3\n"), ":5: the observer is missing"),
        (lambda f: (f / "fixations.csv").write_text(TABLE.splitlines()[0]), "holds no fixation"),
        (
            lambda f: (f / "fixations.csv").write_text(TABLE + "../a.jpg,0,1,1,2,3\n"),
            "names '../a.jpg', which is not in",
        ),
        (lambda f: (f / "images" / "b.jpg").unlink(), "names 'b.jpg', which is not in"),
    ],
)
def test_what_is_wrong_is_named(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        read_stills(folder)


def test_a_damaged_picture_is_an_error_once_it_is_read(folder):
    (folder / "images" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_stills(folder)[0].read()


@pytest.mark.parametrize(("photographs", "sizes"), [(OSIE, (450, 100)), (CROWD, (301, 50, 50)), (SCENE, (300, 50, 50))])
def test_the_splits_are_disjoint_and_complete(tmp_path, photographs, sizes):
    names = photographs.split_names()
    assert tuple(len(names[split]) for split in names) == sizes
    everything = [name for split in names.values() for name in split]
    assert len(set(everything)) == sum(sizes)
    assert all(name.startswith(photographs.prefix) for name in everything)
    stills = [Still(f"{name}.webp", tmp_path, np.zeros((0, 2), np.float32)) for name in everything]
    more = Still(f"{photographs.prefix}more.jpg", tmp_path, np.zeros((0, 2), np.float32))
    split = split_stills([more, *stills])
    assert {key: [still.name for still in split[key]] for key in split} == {
        key: [f"{name}.webp" for name in chosen] for key, chosen in names.items()
    }
    with pytest.raises(DataError, match=f"prepare all of {photographs.title}"):
        split_stills(stills[1:])


@pytest.mark.parametrize("name", ["crowd", "scene"])
def test_the_splits_are_drawn_by_the_seed_that_they_name(name):
    """A shuffle of all names by the seed gives the file again."""
    names = SETS[name].split_names()
    everything = sorted(stem for split in names.values() for stem in split)
    order = np.random.default_rng(18).permutation(len(everything))
    drawn = [sorted(everything[i] for i in part) for part in (order[100:], order[:50], order[50:100])]
    assert drawn == [names[split] for split in ("train", "validation", "test")]


def test_a_set_is_told_by_its_names():
    assert set_of(["crowd_001.jpg", "crowd_2.webp"]) is CROWD
    assert set_of(["scene_001.jpg"]) is SCENE
    assert set_of(["scene_001.jpg", "crowd_001.jpg"]) is OSIE
    assert set_of([]) is OSIE


def test_fixations_are_blurred_by_the_sets_degree(folder):
    (folder / "images" / "a.jpg").rename(folder / "images" / "crowd_a.jpg")
    (folder / "fixations.csv").write_text("image,observer,order,x,y,duration_ms\ncrowd_a.jpg,0,0,10,20,200\n")
    (still,) = read_stills(folder)
    assert still.observers == ("0",)
    # 26 pixels of the authors' 1024x768.
    np.testing.assert_array_equal(still.density(384, 512), fixation_density([[10, 20]], 384, 512, 13.0))
