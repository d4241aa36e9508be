"""The public layouts of OSIE, Crowd and Scene in miniature, made ours; what is wrong is named and nothing is left."""

import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.runtime.cli import main
from dtfsal.training.data.photograph_sets import CROWD, OSIE, SCENE
from dtfsal.training.data.prepare_photographs import prepare_photographs
from dtfsal.training.data.stills import DataError, read_stills

scipy_io = pytest.importorskip("scipy.io")
NOBODY = np.zeros((0, 0))


def picture(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save_table(path, records):
    """Cells of cells of structs, as OSIE and Crowd have them: per picture its name and observers' (x, y, ms)."""
    pictures = np.empty((len(records), 1), object)
    for number, (name, observers) in enumerate(records):
        subjects = np.empty((len(observers), 1), object)
        for observer, fixations in enumerate(observers):
            subjects[observer, 0] = NOBODY
            if len(fixations):
                x, y, duration = np.array(fixations, float).T[:, None]
                subjects[observer, 0] = {"fix_x": x, "fix_y": y, "fix_duration": duration}
        pictures[number, 0] = {"img": name, "subjects": subjects}
    path.parent.mkdir(parents=True)
    scipy_io.savemat(path, {"fixations": pictures})


@pytest.fixture(params=[(OSIE, 800, 600), (CROWD, 1024, 768)], ids=["osie", "crowd"])
def named(request, tmp_path):
    """OSIE or Crowd as their authors distribute them: two pictures, two observers; a single fixation is a scalar."""
    photographs, width, height = request.param
    data = tmp_path / "public" / "data"
    (data / "stimuli").mkdir(parents=True)
    middle = (width / 2 + 0.5, height / 2 + 0.5, 250)
    for number in range(2):
        picture(number, height, width).save(data / "stimuli" / f"100{number}.jpg")
    observers = [[middle], [middle, (1, height, 100)]]
    save_table(data / "eye" / "fixations.mat", [(f"100{number}.jpg", observers) for number in range(2)])
    return photographs, data


@pytest.fixture
def scene(tmp_path):
    """Scene as its authors distribute it: a wide and a tall picture, three observers; one saw the second only."""
    data = tmp_path / "public" / "data"
    (data / "stimuli").mkdir(parents=True)
    (data / "tidy").mkdir()
    picture(0, 300, 400).save(data / "stimuli" / "001.jpg")
    picture(1, 960, 600).save(data / "stimuli" / "002.jpg")
    cells = np.empty((2, 3), object)
    for number in range(2):
        for observer in range(3):
            cells[number, observer] = np.array([[100.0, 40.5, 0.3, 0.25], [30.0, 20.0, 0.6, 0.5]])
    cells[0, 2] = NOBODY
    scipy_io.savemat(data / "tidy" / "fixations.mat", {"fixations": cells})
    return data


def test_names_and_pixels_become_ours(named, tmp_path):
    photographs, data = named
    assert prepare_photographs(photographs, data.parent, tmp_path / "out") == 2
    stills = read_stills(tmp_path / "out")
    assert [still.name for still in stills] == [f"{photographs.prefix}100{n}.jpg" for n in range(2)]
    assert stills[0].read().shape == (480, 640, 3)
    assert stills[0].degree_of_height == photographs.degree_of_height
    assert stills[0].observers == ("0", "1", "1")
    # MATLAB's pixel 400.5 of 1..800 is the picture's middle: ours of 0..639 is 319.5. The corner's pixel keeps its
    # distance of half a pixel of theirs from the edge. Rounded to a tenth.
    edge = 0.5 * 480 / Image.open(data / "stimuli" / "1000.jpg").height
    corner = [edge - 0.5, 479.5 - edge]
    np.testing.assert_allclose(stills[0].fixations, [[319.5, 239.5], [319.5, 239.5], corner], rtol=0, atol=0.051)


def test_scene_keeps_its_aspects_and_who_did_not_look(scene, tmp_path):
    assert prepare_photographs(SCENE, scene, tmp_path / "out") == 2
    wide, tall = read_stills(tmp_path / "out")
    assert (wide.name, wide.size(), tall.size()) == ("scene_001.jpg", (300, 400), (480, 300))
    assert wide.observers == ("0", "0", "1", "1")
    assert set(tall.observers) == {"0", "1", "2"}
    # Rows are y, x from the picture's edge, where our first pixel's centre is half a pixel away.
    np.testing.assert_allclose(wide.fixations[:2], [[40, 99.5], [19.5, 29.5]], rtol=0, atol=0.051)
    np.testing.assert_allclose(tall.fixations[:2], [[19.75, 49.5], [9.5, 14.5]], rtol=0, atol=0.051)
    table = (tmp_path / "out" / "fixations.csv").read_text().splitlines()
    assert table[1] == "scene_001.jpg,0,0,40.0,99.5,250"


def test_a_part_of_a_set_in_our_layout_is_checked_and_copied(scene, tmp_path):
    prepare_photographs(SCENE, scene, tmp_path / "part")
    assert prepare_photographs(SCENE, tmp_path / "part", tmp_path / "out") == 2
    for file in ("fixations.csv", "images/scene_001.jpg", "images/scene_002.jpg"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "part" / file).read_bytes()
    with pytest.raises(DataError, match="holds pictures of Scene by their names; prepare it as scene"):
        prepare_photographs(CROWD, tmp_path / "part", tmp_path / "other")
    table = tmp_path / "part" / "fixations.csv"
    table.write_text(table.read_text() + "scene_003.jpg,0,0,900,900,200\n")
    picture(5, 200, 200).save(tmp_path / "part" / "images" / "scene_003.jpg")
    with pytest.raises(DataError, match=r"no fixation on .*scene_003.jpg lies in the picture"):
        prepare_photographs(SCENE, tmp_path / "part", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def twin(stimuli):
    """The second picture is the first one mirrored, smaller and darker."""
    first = Image.open(stimuli / "001.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    first.resize((600, 960)).point(lambda value: 0.8 * value).save(stimuli / "002.jpg", quality=60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "tidy" / "fixations.mat").unlink(), "holds neither stimuli/ with fixations.mat nor images/"),
        (lambda d: (d / "stimuli" / "002.jpg").write_bytes(b"no"), "cannot be read as a picture"),
        (lambda d: (d / "stimuli" / "002.jpg").unlink(), "it has 2 pictures, and stimuli/ has 1"),
        (lambda d: (d / "tidy" / "fixations.mat").write_bytes(b"MATLAB 5.0 no"), "cannot be read as a MATLAB file"),
        (lambda d: save_one(d, np.ones((2, 2))), "is not Scene's fixations.mat"),
        (lambda d: save_one(d, NOBODY), "nobody looked at 001.jpg"),
        (lambda d: twin(d / "stimuli"), "scene_002.jpg and scene_001.jpg are the same picture"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(scene, tmp_path, change, message):
    change(scene)
    with pytest.raises(DataError, match=message):
        prepare_photographs(SCENE, scene, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["public"]


def save_one(data, cell):
    cells = np.empty((2, 1), object)
    cells[0, 0] = cells[1, 0] = cell
    scipy_io.savemat(data / "tidy" / "fixations.mat", {"fixations": cells})


def test_an_observer_without_fixations_is_left_out(tmp_path):
    data = tmp_path / "public"
    (data / "stimuli").mkdir(parents=True)
    picture(0, 768, 1024).save(data / "stimuli" / "001.jpg")
    save_table(data / "eye" / "fixations.mat", [("001.jpg", [[(9, 9, 100)], [], [(np.nan, np.nan, 80), (5, 5, 100)]])])
    prepare_photographs(CROWD, data, tmp_path / "out")
    (still,) = read_stills(tmp_path / "out")
    assert still.observers == ("0", "2")  # and a blink is no fixation


def test_the_command_tells_what_it_made(scene, tmp_path, capsys):
    assert main(["prepare", "scene", "--source", str(scene), "--output", str(tmp_path / "out")]) == 0
    assert "2 pictures with fixations" in capsys.readouterr().out
    assert main(["prepare", "scene", "--source", str(scene), "--output", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(UsageError, match="exists already"):
        prepare_photographs(SCENE, scene, tmp_path / "out")
    with partial_folder(tmp_path / "other"), pytest.raises(OutputError, match="being written by another run"):
        prepare_photographs(SCENE, scene, tmp_path / "other")
