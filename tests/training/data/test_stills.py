"""Folders of photographs with fixations: read, split, made from OSIE's public layout; what is wrong is named."""

import json
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.training.data.osie import prepare_osie
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


def test_the_split_is_disjoint_and_complete(tmp_path):
    names = json.loads(resources.files("dtfsal.training.data").joinpath("osie_split.json").read_text())
    assert len(names["train"]) == 450
    assert len(names["validation"]) == 100
    assert not set(names["train"]) & set(names["validation"])
    everything = [Still(n, tmp_path / n, np.zeros((0, 2), np.float32)) for n in names["train"] + names["validation"]]
    split = split_stills([*everything, Still("more.jpg", tmp_path, np.zeros((0, 2), np.float32))])
    assert [still.name for still in split["validation"]] == names["validation"]
    with pytest.raises(DataError, match="prepare all of OSIE"):
        split_stills(everything[1:])


@pytest.fixture
def public_osie(tmp_path):
    """OSIE as its authors distribute it, in small: two pictures of 800x600, two observers."""
    scipy_io = pytest.importorskip("scipy.io")
    source = tmp_path / "osie" / "data"
    (source / "stimuli").mkdir(parents=True)
    (source / "eye").mkdir()
    records = np.empty((2, 1), object)
    for number in range(2):
        Image.new("RGB", (800, 600), (10, 100, 10)).save(source / "stimuli" / f"100{number}.jpg")
        subjects = np.empty((2, 1), object)
        for observer in range(2):
            count = 1 + observer  # a single fixation is a scalar once MATLAB's axes are squeezed
            subjects[observer, 0] = {
                "fix_x": np.array([[400.5, 1.0][:count]]),
                "fix_y": np.array([[300.5, 600.0][:count]]),
                "fix_duration": np.array([[250.0, 100.0][:count]]),
            }
        records[number, 0] = {"img": f"100{number}.jpg", "subjects": subjects}
    scipy_io.savemat(source / "eye" / "fixations.mat", {"fixations": records})
    return tmp_path / "osie"


def test_osies_public_layout_becomes_ours(public_osie, tmp_path):
    assert prepare_osie(public_osie, tmp_path / "out") == 2
    stills = read_stills(tmp_path / "out")
    assert [still.name for still in stills] == ["1000.jpg", "1001.jpg"]
    assert stills[0].read().shape == (480, 640, 3)
    # MATLAB's pixel 400.5 of 1..800 is the picture's middle: ours of 0..639 is 319.5. Rounded to a tenth.
    np.testing.assert_allclose(stills[0].fixations, [[319.5, 239.5], [319.5, 239.5], [-0.1, 479.1]], rtol=0, atol=0.051)


def test_prepare_refuses_what_is_not_osie_and_leaves_nothing(public_osie, tmp_path):
    with partial_folder(tmp_path / "out"), pytest.raises(OutputError, match="being written by another run"):
        prepare_osie(public_osie, tmp_path / "out")
    with pytest.raises(DataError, match="holds no stimuli/"):
        prepare_osie(tmp_path / "osie" / "data" / "eye", tmp_path / "out")
    (public_osie / "data" / "stimuli" / "1001.jpg").unlink()
    with pytest.raises(DataError, match="cannot be read as a picture"):
        prepare_osie(public_osie, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["osie"]
    (public_osie / "data" / "eye" / "fixations.mat").write_bytes(b"MATLAB 5.0 no")
    with pytest.raises(DataError, match=r"fixations.mat cannot be read as a MATLAB file"):
        prepare_osie(public_osie, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        prepare_osie(public_osie, tmp_path / "out")
