"""Videos in dtfsal's layout: prepared, read at random, and told what is wrong with them."""

import json
import pickle

import numpy as np
import pytest

from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.partial import partial_folder
from dtfsal.runtime.media.video import VideoReader
from dtfsal.training.data.datasets import open_dataset
from dtfsal.training.data.prepare_videos import PrepareOptions, choose_splits, prepare_videos
from dtfsal.training.data.prepared_videos import read_table
from dtfsal.training.data.stills import DataError


def item_of(root, split="train"):
    return open_dataset("videos", root, split)[0]


def test_frames_in_any_order_are_those_of_the_reader(make_miniature):
    root = make_miniature("videos", count=40, videos=("a",))  # H.264 with B-frames, a key frame every 8th
    item = item_of(root)
    with VideoReader(root / "videos" / "a.mp4") as reader:
        expected = [frame.rgb for frame in reader]
    assert item.frame_count == len(expected) == 40
    order = np.random.default_rng(0).permutation(40)
    for number in (*order, 0, 1, 2, 39, 0, 17, 17):
        np.testing.assert_array_equal(item.frame(int(number)), expected[number])
    with pytest.raises(UsageError, match="frames 0 to 39, not 40"):
        item.frame(40)


def test_the_map_is_a_gaussian_of_one_degree_around_each_position(make_miniature):
    root = make_miniature("videos", count=4, videos=("a",), size=(72, 128))
    item = item_of(root)
    points = item.fixations(2).astype(np.float64)
    assert len(points) == 3
    assert item.sigma == 3  # the miniature's pixels per degree
    rows, columns = np.mgrid[:72, :128]
    expected = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2)) for x, y in points)
    np.testing.assert_allclose(item.density(2), expected / expected.sum(), rtol=1e-6, atol=1e-9)  # of float32


def test_one_degree_by_default_is_osies(tmp_path, make_miniature):
    root = make_miniature("videos", count=3, videos=("a",), prepared=False)
    prepare_videos(root, tmp_path / "out", PrepareOptions())
    assert item_of(tmp_path / "out").sigma == pytest.approx(64 * 19 / 640)
    assert (root / "dataset.json").exists() is False


def test_sound_starts_with_the_first_frame(make_miniature):
    root = make_miniature("videos", count=25, videos=("a",), lossless=True)
    samples = item_of(root).samples(16000)
    assert len(samples) == pytest.approx(16000, abs=160)
    assert np.abs(samples).max() == pytest.approx(0.4, abs=0.01)


def test_pictures_stand_for_frames(tmp_path, make_miniature):
    root = make_miniature("videos", count=3, videos=("a",), prepared=False)
    prepare_videos(root, tmp_path / "out", PrepareOptions(pictures=True))
    names = [path.name for path in sorted((tmp_path / "out" / "frames" / "a").iterdir())]
    assert names == ["00001.jpg", "00002.jpg", "00003.jpg"]
    item = item_of(tmp_path / "out")
    (tmp_path / "out" / "videos" / "a.mp4").write_bytes(b"")  # it is not needed any more
    with VideoReader(root / "videos" / "a.mp4") as reader:
        for frame in reader:
            assert np.abs(item.frame(frame.index).astype(int) - frame.rgb).mean() < 3  # JPEG of quality 95


def test_an_item_may_be_sent_to_another_process(make_miniature):
    item = item_of(make_miniature("videos", count=12, videos=("a",)))
    item.frame(9)
    copy = pickle.loads(pickle.dumps(item))
    np.testing.assert_array_equal(copy.frame(3), item.frame(3))
    np.testing.assert_array_equal(copy.density(3), item.density(3))


def test_splits_are_by_name_and_of_the_asked_size():
    names = [f"video{number}" for number in range(40)]
    options = PrepareOptions(validation_share=0.25, test_share=0.1)
    splits = choose_splits(names, options)
    assert sorted(splits.values()).count("validation") == 10
    assert sorted(splits.values()).count("test") == 4
    assert choose_splits(names[::-1], options) == splits
    assert set(choose_splits(names, PrepareOptions(validation_share=0, test_share=0)).values()) == {"train"}


def test_the_split_may_be_changed_by_hand(make_miniature):
    root = make_miniature("videos", count=3, videos=("a", "b"))
    path = root / "dataset.json"
    data = json.loads(path.read_text())
    for video in data["videos"]:
        video["split"] = "test"
    path.write_text(json.dumps(data))
    assert [item.name for item in open_dataset("videos", root, "test")] == ["a", "b"]
    with pytest.raises(DataError, match="no video in the split 'train'"):
        open_dataset("videos", root, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "its format is not 1"),
        (lambda d: d["videos"].append(d["videos"][0]), "two videos have one name"),
        (lambda d: d["videos"][0].update(split="none"), "split must be one of"),
        (lambda d: d["videos"][0].update(file="../../etc/passwd"), "not below the dataset's folder"),
        (lambda d: d["videos"][0].update(frame_count=True), "frame_count can't be True"),
        (lambda d: d["videos"][0].update(height=0), "must be positive"),
        (lambda d: d["videos"][0].pop("width"), "width"),
        (lambda d: d.update(pixels_per_degree=-1), "pixels per degree"),
    ],
)
def test_a_wrong_dataset_json_is_refused(make_miniature, change, message):
    root = make_miniature("videos", count=2, videos=("a",))
    data = json.loads((root / "dataset.json").read_text())
    change(data)
    (root / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        read_table(root)


def test_preparing_names_every_problem_and_leaves_nothing(tmp_path, make_miniature):
    root = make_miniature("videos", count=4, videos=("a", "b", "c"), prepared=False)
    whole = (root / "videos" / "a.mp4").read_bytes()
    (root / "videos" / "a.mp4").write_bytes(whole[:100])
    (root / "fixations" / "b.csv").write_text("time,x,y,observer\n0,900,900,p\n")
    with pytest.raises(DataError, match=r"a\.mp4.*; .*b\.csv: no position lies in a frame of b\.mp4 \(64x36, 4 frames"):
        prepare_videos(root, tmp_path / "out", PrepareOptions())
    assert list(tmp_path.iterdir()) == []
    with partial_folder(tmp_path / "out"), pytest.raises(OutputError, match="being written by another run"):
        prepare_videos(root, tmp_path / "out", PrepareOptions())
    with pytest.raises(UsageError, match="exists already"):
        prepare_videos(root, tmp_path, PrepareOptions())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "fixations" / "b.csv").unlink(), r"b\.csv is not there; every video needs"),
        (lambda root: (root / "videos" / "b.mp4").unlink(), r"b\.csv has no video"),
        (lambda root: (root / "videos" / "b.mkv").write_bytes(b""), "have one name"),
        (lambda root: (root / "fixations").rename(root / "gaze"), "needs the folders videos/ and fixations/"),
    ],
)
def test_videos_and_tables_belong_together(tmp_path, make_miniature, spoil, message):
    root = make_miniature("videos", count=2, videos=("a", "b"), prepared=False)
    spoil(root)
    with pytest.raises(DataError, match=message):
        prepare_videos(root, tmp_path / "out", PrepareOptions())


@pytest.mark.parametrize("arguments", [{"validation_share": 0.7, "test_share": 0.7}, {"test_share": float("nan")}])
def test_shares_are_held_to_what_they_can_be(arguments):
    with pytest.raises(UsageError, match="shares of validation and test"):
        PrepareOptions(**arguments)
