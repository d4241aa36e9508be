"""Every dataset's layouts, read from miniatures of known frames, maps, fixations and sounds; and the known traps."""

import pickle

import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.datasets import DATASETS, open_dataset
from dtfsal.training.data.picture_files import fixated_points, read_fixation_map, read_map, read_rgb
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_item import frame_times

AUDIO_VISUAL = ("diem", "avad", "coutrot1", "coutrot2", "summe", "etmd")
JPEG_TOLERANCE = 40  # levels, at the edge of a spot in a picture as small as a miniature's


def marked(marks):
    """(n, 2) x and y of a boolean map, in the order of rows."""
    return np.argwhere(marks)[:, ::-1]


def test_all_datasets_of_the_paper_are_there():
    assert list(DATASETS) == ["dhf1k", "ucf-sports", *AUDIO_VISUAL, "videos", "crowdsal", "aim2024", "ntire2026"]
    assert {name: DATASETS[name].folds for name in AUDIO_VISUAL} == {
        name: () if name == "diem" else (1, 2, 3) for name in AUDIO_VISUAL
    }
    ranges = DATASETS["dhf1k"].videos.ranges
    assert ranges == {"train": (1, 600), "validation": (601, 700), "test": (701, 1000)}


@pytest.mark.parametrize("layout", ["beside", "video", "split", "plain"])
def test_dhf1k_in_each_layout(make_miniature, make_scene, layout):
    root = make_miniature("dhf1k", layout=layout, count=5)
    names = {split: [item.name for item in open_dataset("dhf1k", root, split)] for split in DATASETS["dhf1k"].splits}
    assert names == {"train": ["0001", "0002"], "validation": ["0601"], "test": ["0701"]}
    second, scene = open_dataset("dhf1k", root, "train")[1], make_scene(2, 5, (36, 64))
    assert (second.dataset, second.frame_count, second.size, second.frame_rate_hz) == ("dhf1k", 5, (36, 64), 30.0)
    assert not second.has_sound
    assert second.samples(16000) is None
    for index in range(5):
        np.testing.assert_array_equal(second.frame(index), scene.frames[index])
        np.testing.assert_array_equal(second.density(index), scene.maps[index])
        np.testing.assert_array_equal(second.fixations(index), marked(scene.marks[index]))
    (test,) = open_dataset("dhf1k", root, "test")  # whose annotation is not public
    assert test.frame(0).shape == (36, 64, 3)
    assert test.density(0) is None
    assert test.fixations(0) is None


def test_ucf_sports(make_miniature, make_scene):
    root = make_miniature("ucf-sports", count=4)
    first, second = open_dataset("ucf-sports", root, "train")
    assert (first.name, second.name) == ("Diving-Side-001", "Kicking-002")
    scene = make_scene(1, 4, (36, 64))
    np.testing.assert_array_equal(second.frame(3), scene.frames[3])
    np.testing.assert_array_equal(second.density(3), scene.maps[3])
    np.testing.assert_array_equal(second.fixations(3), marked(scene.marks[3]))
    (test,) = open_dataset("ucf-sports", root, "test")
    (validation,) = open_dataset("ucf-sports", root, "validation")
    assert test == validation
    assert test.name == "Running-003"


@pytest.mark.parametrize("name", AUDIO_VISUAL)
def test_audio_visual_sets(make_miniature, make_scene, name):
    root = make_miniature(name, count=4, rate=24)
    folds = DATASETS[name].folds or (None,)
    held_out = []
    for fold in folds:
        train = [item.name for item in open_dataset(name, root, "train", fold=fold)]
        test = [item.name for item in open_dataset(name, root, "test", fold=fold)]
        assert sorted(train + test) == ["V1_Speech1", "V2_Band", "V3_News4"]
        assert [item.name for item in open_dataset(name, root, "validation", fold=fold)] == test
        held_out += test
    assert held_out == (["V3_News4"] if name == "diem" else ["V1_Speech1", "V2_Band", "V3_News4"])
    item = next(i for i in open_dataset(name, root, "train", fold=folds[0]) if i.name == "V2_Band")
    scene = make_scene(1, 4, (36, 64))
    assert (item.frame_count, item.frame_rate_hz, item.size) == (4, 24.0, (36, 64))
    assert frame_times(item) == pytest.approx(np.arange(4) / 24)
    np.testing.assert_allclose(item.frame(2), scene.frames[2].astype(int), atol=JPEG_TOLERANCE)
    np.testing.assert_allclose(item.density(2), scene.maps[2], atol=JPEG_TOLERANCE)
    assert np.abs(item.density(2) - scene.maps[2]).mean() < 2
    np.testing.assert_array_equal(item.fixations(2), marked(scene.marks[2]))  # of a .mat file


def test_sounds_are_resampled_mono_and_start_with_the_video(make_miniature):
    root = make_miniature("avad", count=25, rate=25)
    item = next(i for i in open_dataset("avad", root, "train", fold=1) if i.name == "V2_Band")
    samples = item.samples(16000)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16000, abs=160)  # the resampler may hold back less than 10 ms
    spectrum = np.abs(np.fft.rfft(samples[:16000] * np.hanning(min(len(samples), 16000))))
    assert np.argmax(spectrum) * 16000 / len(samples[:16000]) == pytest.approx(400, abs=2)  # the miniature's tone
    assert np.abs(samples).max() == pytest.approx(0.5 * 2**0.5, abs=0.02)  # FFmpeg's mono keeps two channels' power


def test_the_last_video_of_a_list_has_its_sound(make_miniature):
    """Loaders before this one lost it to an off-by-one in the loop over the list."""
    for name, fold in (("diem", None), ("avad", 1)):
        root = make_miniature(name)
        for split in ("train", "test"):
            items = open_dataset(name, root, split, fold=fold)
            assert [item.has_sound for item in items] == [True] * len(items)
            assert all(np.abs(item.samples(16000)).max() > 0.1 for item in items)


@pytest.mark.parametrize("name", ["diem", "avad"])
def test_a_list_one_frame_too_long_asks_for_no_frame_that_is_not_there(make_miniature, name):
    """AVAD's lists give V11_News4 one frame more than it has."""
    root = make_miniature(name, count=6, videos=("V1_Speech1", "V11_News4"))
    for path in (root / "fold_lists").iterdir():
        path.write_text(path.read_text().replace("V11_News4 6 ", "V11_News4 7 "))
    for split in ("train", "test"):
        for item in open_dataset(name, root, split, fold=DATASETS[name].folds[0] if DATASETS[name].folds else None):
            assert item.frame_count == 6
            assert item.frame(5).shape == (36, 64, 3)
            with pytest.raises(UsageError, match="has the frames 0 to 5, not 6"):
                item.frame(6)


def test_a_last_frame_without_map_is_a_frame_without_map(make_miniature):
    root = make_miniature("diem", count=6, videos=("V1_Speech1", "one_show"))
    folder = root / "annotations" / "DIEM" / "one_show"
    (folder / "maps" / "eyeMap_00006.jpg").unlink()
    (folder / "fixMap_00006.mat").unlink()
    (item,) = open_dataset("diem", root, "test")
    assert item.frame_count == 6
    assert item.density(5) is None
    assert item.fixations(5) is None
    assert item.density(4).any()


def test_a_list_that_is_shorter_leaves_the_rest_out(make_miniature):
    root = make_miniature("diem", count=6)
    path = root / "fold_lists" / "DIEM_list_test_fps.txt"
    path.write_text("V3_News4 4 25\n")
    (item,) = open_dataset("diem", root, "test")
    assert item.frame_count == 4


def test_a_map_belongs_to_the_frame_of_its_number(make_miniature, make_scene):
    """Not to the one of its place: a map that is missing must not shift the others."""
    root, scene = make_miniature("dhf1k", count=5), make_scene(1, 5, (36, 64))
    (root / "annotation" / "0001" / "maps" / "0002.png").unlink()
    item = open_dataset("dhf1k", root, "train")[0]
    assert item.density(1) is None
    for index in (0, 2, 3, 4):
        np.testing.assert_array_equal(item.density(index), scene.maps[index])


def test_maps_of_another_size_keep_their_own_and_fixations_move_to_the_frames(make_miniature):
    root = make_miniature("dhf1k", count=2)
    folder = root / "annotation" / "0001"
    Image.fromarray(np.full((18, 32), 7, np.uint8)).save(folder / "maps" / "0001.png")
    marks = np.zeros((18, 32), np.uint8)
    marks[3, 10] = 1  # ones, not 255s
    Image.fromarray(marks).save(folder / "fixation" / "0001.png")
    item = open_dataset("dhf1k", root, "train")[0]
    assert item.density(0).shape == (18, 32)
    np.testing.assert_allclose(item.fixations(0), [[20.5, 6.5]])  # the middle of the four pixels it covers


@pytest.mark.parametrize("place", ["fixation/maps", "fixations/maps", "fixations"])
def test_fixations_in_folders_of_other_names(make_miniature, make_scene, place):
    root = make_miniature("ucf-sports", count=2)
    folder, scene = root / "training" / "Kicking-002", make_scene(1, 2, (36, 64))
    old = sorted((folder / "fixation").iterdir())
    if place == "fixations":
        (folder / "fixation").rename(folder / place)
    else:
        savemat = pytest.importorskip("scipy.io").savemat
        (folder / place).mkdir(parents=True)
        for path, marks in zip(old, scene.marks, strict=True):
            savemat(folder / place / f"{path.stem}.mat", {"I": marks.astype(np.uint8)})
            path.unlink()
    item = open_dataset("ucf-sports", root, "train")[1]
    np.testing.assert_array_equal(item.fixations(1), marked(scene.marks[1]))


def test_the_same_video_may_be_sent_to_another_process(make_miniature):
    item = open_dataset("avad", make_miniature("avad", count=3), "test", fold=2)[0]
    item.density(0)
    copy = pickle.loads(pickle.dumps(item))
    np.testing.assert_array_equal(copy.frame(1), item.frame(1))


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("dhf2k", {"split": "train"}, UsageError, "there is no dataset 'dhf2k'; choose one of dhf1k"),
        ("avad", {"split": "train"}, UsageError, "AVAD has the folds 1, 2, 3; give one of them, not None"),
        ("avad", {"split": "train", "fold": 4}, UsageError, "not 4"),
        ("diem", {"split": "train", "fold": 1}, UsageError, "DIEM has no folds"),
        ("dhf1k", {"split": "all"}, UsageError, "DHF1K has no split 'all'"),
        (
            "dhf1k",
            {"split": "train"},
            DataError,
            "holds no video of DHF1K's split 'train': there should be annotation/",
        ),
        ("avad", {"split": "train", "fold": 1}, DataError, "the list .*AVAD_list_train_1_fps.txt cannot be read"),
        ("videos", {"split": "train"}, DataError, "holds no dataset.json; run `dtfsal prepare videos"),
        ("videos", {"split": "train", "fold": 1}, UsageError, "no folds"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, name, arguments, error, message):
    with pytest.raises(error, match=message):
        open_dataset(name, tmp_path, **arguments)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        open_dataset("dhf1k", tmp_path / "none", "train")


def test_a_listed_video_that_is_not_there_is_named(make_miniature):
    root = make_miniature("coutrot1", count=2)
    for path in (root / "video_frames" / "Coutrot_db1" / "V2_Band").iterdir():
        path.unlink()
    path.parent.rmdir()
    with pytest.raises(DataError, match="V2_Band is not there; `dtfsal check coutrot1"):
        open_dataset("coutrot1", root, "train", fold=1)


def test_a_video_without_frames_is_an_error(make_miniature):
    root = make_miniature("dhf1k", count=1)
    (root / "annotation" / "0001" / "images" / "0001.png").unlink()
    item = open_dataset("dhf1k", root, "train")[0]
    with pytest.raises(DataError, match="holds no frame of dhf1k"):
        item.frame(0)


# Pictures and MATLAB files.


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P", "1"])
def test_maps_of_any_kind_of_picture(tmp_path, mode):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    image = Image.fromarray(values.astype(np.uint16) * 100) if mode == "I;16" else Image.fromarray(values).convert(mode)
    image.save(tmp_path / "map.png")
    found = read_map(tmp_path / "map.png")
    assert found.dtype == np.float32
    if mode == "1":
        assert set(np.unique(found)) <= {0, 255}
    else:
        np.testing.assert_array_equal(found, values * (100.0 if mode == "I;16" else 1.0))
    assert read_rgb(tmp_path / "map.png").shape == (3, 4, 3)


def test_fixated_points_of_lossy_and_empty_maps():
    noisy = np.full((5, 6), 3, np.float32)
    noisy[2, 4] = 250
    np.testing.assert_array_equal(fixated_points(noisy, (5, 6)), [[4, 2]])
    assert fixated_points(np.zeros((5, 6), np.float32), (10, 12)).shape == (0, 2)


def test_sparse_and_logical_mat_files(tmp_path):
    savemat, sparse = pytest.importorskip("scipy.io").savemat, pytest.importorskip("scipy.sparse")
    marks = np.zeros((4, 6))
    marks[1, 2] = 1
    for number, stored in enumerate((sparse.csc_matrix(marks), marks.astype(bool), marks.astype(np.uint8))):
        savemat(tmp_path / f"{number}.mat", {"eyeMap": stored}, do_compression=True)
        np.testing.assert_array_equal(read_fixation_map(tmp_path / f"{number}.mat"), marks)


def test_damaged_files_are_named(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    mat = tmp_path / "a.mat"
    savemat(mat, {"other": np.ones((2, 2))})
    with pytest.raises(DataError, match=r"a\.mat holds no variable eyeMap or I, but other"):
        read_fixation_map(mat)
    savemat(mat, {"eyeMap": np.ones((2, 2, 2))})
    with pytest.raises(DataError, match=r"must be a map"):
        read_fixation_map(mat)
    savemat(mat, {"eyeMap": np.random.default_rng(0).random((20, 20))}, do_compression=True)
    whole = mat.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        mat.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_fixation_map(mat)
    with pytest.raises(DataError, match="is not there"):
        read_fixation_map(tmp_path / "none.mat")
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (3, 4, 5)).save(picture)
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.png cannot be read as a picture"):
        read_rgb(picture)
    with pytest.raises(DataError, match="is not there"):
        read_map(tmp_path / "none.png")


def test_without_scipy_one_sentence_says_so(make_miniature, monkeypatch):
    import sys

    from dtfsal.engines.errors import UnavailableError

    item = open_dataset("avad", make_miniature("avad", count=2), "test", fold=1)[0]
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UnavailableError, match=r"fixMap_00001\.mat needs SciPy; run `pip install"):
        item.fixations(0)
    assert item.density(0).any()  # maps need none
