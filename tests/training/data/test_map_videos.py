"""CrowdSAL and the challenges, in miniature as they are published: prepared, checked, trained on, scored, submitted."""

import json

import av
import numpy as np
import pytest

from dtfsal.runtime.cli import main
from dtfsal.training.cli import check, prepare, submit
from dtfsal.training.data import map_videos
from dtfsal.training.data.datasets import DATASETS, open_dataset
from dtfsal.training.data.map_videos import read_frame_points
from dtfsal.training.data.stills import DataError
from dtfsal.training.evaluation.submission import write_map_video
from dtfsal.training.trainer.experiment import experiment_from
from dtfsal.training.trainer.loop import train

COUNT = 6


def grey_frames(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)])


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


@pytest.mark.parametrize("name", ["crowdsal", "ntire2026"])  # AIM 2024 is laid out as NTIRE 2026
def test_from_the_download_to_a_submission(make_miniature, make_scene, tmp_path, capsys, name):
    root = make_miniature(name, tmp_path / "data", count=COUNT, validation=() if name == "crowdsal" else (601,))
    with pytest.raises(DataError, match=f"is not prepared; run `dtfsal prepare {name} --source"):
        open_dataset(name, root, "train")
    assert main(["prepare", name, "--source", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    splits = {"train": 2, "test": 1} if name == "crowdsal" else {"train": 2, "validation": 1, "test": 1}
    assert (told["videos"], told["splits"]) == (sum(splits.values()), splits)
    assert main(["check", name, str(root)]) == 0

    scene = make_scene(701, COUNT, (36, 64))
    (item,) = open_dataset(name, root, "test")
    assert (item.name, item.dataset, item.frame_count, item.size) == ("0701", name, COUNT, (36, 64))
    for index in (5, 0, 3):
        # 10 bits, near-lossless: what is left is the codec's, in limited range.
        density = item.density(index)
        np.testing.assert_allclose(density / density.max(), scene.maps[index] / 255, atol=0.02)
        expected = {(x, y) for y, x in np.argwhere(scene.marks[index])}
        assert {tuple(point) for point in item.fixations(index).tolist()} == expected

    model = {"preset": "tiny", "frames": 4, "height": 64, "width": 96}
    data = {"dataset": name, "root": str(root), "workers": 0, "windows_per_video": 2, "validation_every": 4}
    values = {"name": "t", "model": model, "data": data, "schedule": {"epochs": 1}}
    assert train(experiment_from(values), tmp_path / "run", accelerator="cpu")["steps"] == 2
    weights = str(tmp_path / "run" / "best.safetensors")
    convention = "crowdsal" if name == "crowdsal" else "challenge"
    arguments = ["evaluate", weights, "--dataset", name, "--data", str(root), "--convention", convention]
    assert main([*arguments, "--every", "3", "-o", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["convention"] == convention
    assert all(np.isfinite(scores["scores"]["all"]["model"][metric]) for metric in ("cc", "sim", "nss", "auc_judd"))

    submit = ["submit", weights, "--dataset", name, "--data", str(root), "-o", str(tmp_path / "out")]
    assert main([*submit, "--json"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0701.mp4"]
    # What the benchmark's script asks for: as many frames as the maps have, of their size.
    assert grey_frames(tmp_path / "out" / "0701.mp4").shape == (COUNT, 36, 64)
    assert main(submit) == 2
    assert "is there already; choose a new folder" in capsys.readouterr().err


def test_the_commands_offer_what_there_is():
    assert tuple(dataset.name for dataset in map_videos.MAP_VIDEOS) == prepare.MAP_VIDEOS
    assert set(submit.SUBMISSIONS) == {*prepare.MAP_VIDEOS, "dhf1k"}
    assert tuple(DATASETS) == check.DATASET_NAMES


def test_dhf1k_is_submitted_as_pictures(make_miniature, tmp_path):
    from PIL import Image

    from dtfsal.training.model.config import PRESETS
    from dtfsal.training.model.seeded import seeded_model
    from dtfsal.training.model.weights import save_weights

    root = make_miniature("dhf1k", layout="video", count=3)
    model = seeded_model(PRESETS["tiny-v"].resized(frames=4, height=64, width=96))
    save_weights(model, tmp_path / "w.safetensors")
    command = ["submit", str(tmp_path / "w.safetensors"), "--dataset", "dhf1k", "--data", str(root)]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    pictures = sorted((tmp_path / "out" / "0701").iterdir())
    assert [path.name for path in pictures] == ["0001.png", "0002.png", "0003.png"]
    for path in pictures:
        picture = np.asarray(Image.open(path))
        assert (picture.shape, picture.dtype, picture.max()) == ((36, 64), np.uint8, 255)


def test_a_written_map_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :80]
    maps = [
        np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 200).astype(np.float32) for y, x in rng.integers(8, 40, (7, 2))
    ]
    write_map_video(tmp_path / "m.mp4", iter(maps), 29.97, (48, 80))
    found = grey_frames(tmp_path / "m.mp4")
    assert len(found) == 7
    assert min(correlation(a, b) for a, b in zip(found, maps, strict=True)) > 0.9999


def test_other_counts_are_named_before_anything_is_indexed(make_miniature, make_video, make_scene, tmp_path, capsys):
    root = make_miniature("crowdsal", tmp_path, count=COUNT, train=(1, 2, 3), validation=())
    make_video(root / "Train" / "Videos" / "0001.mp4", make_scene(1, COUNT - 1, (36, 64)).frames, 30)
    fixations = root / "Train" / "Fixations" / "0002.json"
    fixations.write_text(json.dumps(json.loads(fixations.read_text())[1:]))
    for part in ("Saliency/0003.mp4", "Fixations/0003.json"):
        (root / "Train" / part).unlink()
    assert main(["prepare", "crowdsal", "--source", str(root)]) == 3
    error = capsys.readouterr().err
    assert f"0001.mp4 has {COUNT - 1} frames, and" in error
    assert f"0002.json holds {COUNT - 1} frames of fixations" in error
    assert "0003.mp4 has neither maps nor fixations" in error
    assert error.count("\n") == 1
    assert not (root / "index").exists()


def test_a_list_that_names_a_missing_video_is_refused(make_miniature, tmp_path, capsys):
    root = make_miniature("ntire2026", tmp_path, count=3, validation=())
    (root / "Videos" / "0002.mp4").unlink()
    assert main(["prepare", "ntire2026", "--source", str(root)]) == 3
    assert "TrainTestSplit.json names 0002, and Videos/0002.mp4 nor" in capsys.readouterr().err
    (root / "TrainTestSplit.json").write_text(json.dumps({"train": ["../x"], "public_test": [], "private_test": []}))
    assert main(["prepare", "ntire2026", "--source", str(root)]) == 3
    assert "names '../x', which is not a video's name" in capsys.readouterr().err
    (root / "TrainTestSplit.json").write_text("{")
    assert main(["prepare", "ntire2026", "--source", str(root)]) == 3
    assert "cannot be read as the list of splits" in capsys.readouterr().err
    assert main(["prepare", "crowdsal", "--source", str(root)]) == 3
    assert "holds no video of CrowdSAL, such as Train/Videos/NAME.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[[1]]", '[[["a", 2]]]', "[[[1, 1e999]]]", "[" * 3000, "[[[1, 2, 3, 4]]]", "[3]"]
)
def test_damaged_fixations_are_one_sentence(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(DataError, match="is not a file of fixations"):
        read_frame_points(tmp_path / "f.json")
