"""DHF1K as people have it on their disks, in miniature: from the download to two steps of training and scores."""

import json

import numpy as np
import pytest
from PIL import Image

from dtfsal.runtime.cli import main
from dtfsal.training.data import prepare_dhf1k
from dtfsal.training.data.datasets import open_dataset
from dtfsal.training.data.stills import DataError
from dtfsal.training.trainer.experiment import experiment_from
from dtfsal.training.trainer.loop import train


def trained(root, run):
    """Two steps of `tiny-v`, with one of three videos held out; the weights."""
    model = {"preset": "tiny-v", "frames": 4, "height": 64, "width": 96, "target": "centre"}
    data = {"dataset": "dhf1k", "root": str(root), "workers": 0, "window_every": 16, "validation_every": 4}
    values = {"name": "t", "model": model, "data": data, "schedule": {"epochs": 1}}
    result = train(experiment_from(values), run, accelerator="cpu")
    assert result["steps"] == 2
    return run / "best.safetensors"


def scores_of(weights, root, out, *extra):
    arguments = ["evaluate", str(weights), "--dataset", "dhf1k", "--data", str(root), "--split", "validation"]
    return main([*arguments, "--every", "4", "--convention", "mit", "-o", str(out), *extra])


@pytest.fixture(scope="module")
def downloaded(make_miniature):
    """DHF1K's AVI files and annotation; not to be changed."""
    return make_miniature("dhf1k", layout="avi", count=6, train=(1, 2, 3))


def test_the_download_says_what_to_do_and_is_prepared_trained_and_scored(make_miniature, make_scene, tmp_path, capsys):
    root = make_miniature("dhf1k", tmp_path / "dhf1k", layout="avi", count=6, train=(1, 2, 3))
    assert main(["check", "dhf1k", str(root)]) == 3
    hint = f"not decoded yet, such as video/001.AVI: run `dtfsal prepare dhf1k --source {root}`"
    assert hint in capsys.readouterr().err
    with pytest.raises(DataError, match="not decoded yet"):
        open_dataset("dhf1k", root, "train")
    assert main(["prepare", "dhf1k", "--source", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"dataset": "dhf1k", "videos": 5, "decoded": 5, "frames": 30}
    for number in (1, 601, 701):
        pictures = sorted((root / "video" / f"{number:04d}").iterdir())
        assert [path.name for path in pictures] == [f"{n:04d}.png" for n in range(1, 7)]
        for path, frame in zip(pictures, make_scene(number, 6, (36, 64)).frames, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(path)), frame)
    # The same command continues where it was stopped: what is there is left alone.
    (root / "video" / "0001" / "0001.png").write_bytes(b"mine")
    assert main(["prepare", "dhf1k", "--source", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decoded"] == 0
    assert (root / "video" / "0001" / "0001.png").read_bytes() == b"mine"
    Image.fromarray(make_scene(1, 6, (36, 64)).frames[0]).save(root / "video" / "0001" / "0001.png")
    assert main(["check", "dhf1k", str(root), "--allow", "missing-video"]) == 0
    assert scores_of(trained(root, tmp_path / "run"), root, tmp_path / "scores") == 0


def test_jpeg_takes_less_room(make_miniature, tmp_path):
    root = make_miniature("dhf1k", tmp_path / "dhf1k", layout="avi", count=3, train=(1,), validation=(), test=())
    assert main(["prepare", "dhf1k", "--source", str(root), "--jpeg"]) == 0
    assert open_dataset("dhf1k", root, "train")[0].frame_files[1].suffix == ".jpg"


def test_what_does_not_fit_is_named_before_anything_is_decoded(make_miniature, tmp_path, capsys):
    root = make_miniature("dhf1k", tmp_path / "dhf1k", layout="avi", count=4, train=(1, 2, 3), validation=(), test=())
    maps = root / "annotation"
    (maps / "0001" / "maps" / "0004.png").unlink()
    for path in (maps / "0002" / "fixation").iterdir():
        path.unlink()
    for path in (maps / "0003" / "maps").iterdir():
        path.unlink()
    command = ["prepare", "dhf1k", "--source", str(root)]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert f"{root / 'video' / '001.AVI'} decodes to 4 frames, and {maps / '0001' / 'maps'} holds 3 maps" in error
    assert f"{maps / '0002'} has maps and no fixation maps" in error
    assert f"{maps / '0003' / 'maps'} holds no map of 003.AVI" in error
    assert error.count("\n") == 1
    assert not (root / "video" / "0001").exists()
    assert main([*command, "--allow-counts"]) == 0
    assert len(list((root / "video" / "0001").iterdir())) == 4


def test_packets_that_do_not_decode_are_named_when_they_are_met(make_miniature, tmp_path, monkeypatch, capsys):
    root = make_miniature("dhf1k", tmp_path / "dhf1k", layout="avi", count=4, train=(1,), validation=(), test=())
    (root / "annotation" / "0001" / "maps" / "0004.png").unlink()
    monkeypatch.setattr(prepare_dhf1k, "count_frames", lambda _path, expected: expected)
    assert main(["prepare", "dhf1k", "--source", str(root)]) == 3
    assert "001.AVI decodes to 4 frames, and there are 3 maps" in capsys.readouterr().err
    assert [path.name for path in (root / "video").iterdir()] == ["001.AVI"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--output", "elsewhere"], "is decoded beside its videos"),
        (["--frames"], "--frames is for videos"),
    ],
)
def test_options_of_others_are_refused(downloaded, capsys, extra, message):
    assert main(["prepare", "dhf1k", "--source", str(downloaded), *extra]) == 2
    assert message in capsys.readouterr().err


def test_damaged_and_foreign_files_are_one_sentence(tmp_path, capsys):
    (tmp_path / "video").mkdir()
    command = ["prepare", "dhf1k", "--source", str(tmp_path)]
    assert main(command) == 3
    assert "holds no AVI file" in capsys.readouterr().err
    (tmp_path / "video" / "clip.avi").write_bytes(b"x")
    assert main(command) == 3
    assert "is not named by a number" in capsys.readouterr().err
    (tmp_path / "video" / "clip.avi").rename(tmp_path / "video" / "1.avi")
    (tmp_path / "annotation" / "0001" / "maps").mkdir(parents=True)
    Image.new("L", (4, 4), 9).save(tmp_path / "annotation" / "0001" / "maps" / "0001.png")
    assert main(command) == 3
    assert "1.avi" in capsys.readouterr().err


def test_acl_nets_folders_are_trained_on_and_scored(make_miniature, tmp_path):
    root = make_miniature("dhf1k", layout="aclnet", count=6, train=(1, 2, 3))
    assert {path.name for path in root.iterdir()} == {"training", "val", "testing"}
    assert main(["check", "dhf1k", str(root), "--allow", "missing-video"]) == 0
    assert [item.name for item in open_dataset("dhf1k", root, "test")] == ["0701"]
    assert scores_of(trained(root, tmp_path / "run"), root, tmp_path / "scores") == 0


def test_frames_and_maps_alone_are_trained_on_and_scored_without_fixations(make_miniature, tmp_path, capsys):
    root = make_miniature("dhf1k", layout="frames", count=6, train=(1, 2, 3))
    allowed = ["--allow", "missing-video", "--allow", "no-fixations"]
    assert main(["check", "dhf1k", str(root), *allowed]) == 0
    weights = trained(root, tmp_path / "run")
    assert scores_of(weights, root, tmp_path / "scores") == 3
    assert "dhf1k's 601 has maps and no fixations, which NSS and AUC need" in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()
    assert scores_of(weights, root, tmp_path / "scores", "--without-fixations") == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())["scores"]["all"]["model"]
    assert scores["nss"] is None
    assert 0 <= scores["sim"] <= 1
