"""`dtfsal evaluate --dataset`: its numbers are those of a computation by hand, and all files are written."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dtfsal.runtime import cli
from dtfsal.training.data.datasets import open_dataset
from dtfsal.training.data.training_clips import evaluation_windows
from dtfsal.training.evaluation.evaluate import GAZE_PRIOR, MODEL, MUTED
from dtfsal.training.evaluation.evaluate_videos import evaluate_videos
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import save_weights


@pytest.fixture(scope="module")
def model():
    return seeded_model(PRESETS["tiny"].resized(frames=4, height=64, width=96)).eval()


@pytest.fixture(scope="module")
def root(make_miniature):
    return make_miniature("avad", count=7, videos=("V1", "V2", "V3", "V4"))


def by_hand(model, item, every):
    """Means over frames of CC, NSS, SIM and KL, each from its definition in float64."""
    rows = []
    for index, inputs in evaluation_windows(item, model.config.clip, model.config.audio):
        if index % every and index != item.frame_count - 1:
            continue
        with torch.no_grad():
            predicted = model(*(torch.from_numpy(value)[None] for value in inputs.values()))
        truth = item.density(index).astype(np.float64)
        predicted = F.interpolate(predicted, size=truth.shape, mode="bilinear", align_corners=False)[0, 0]
        predicted = predicted.numpy().astype(np.float64)
        z = (predicted - predicted.mean()) / predicted.std()
        p, g = predicted / predicted.sum(), truth / truth.sum()
        points = item.fixations(index).astype(int)
        rows.append(
            (
                np.corrcoef(predicted.ravel(), truth.ravel())[0, 1],
                np.mean([z[y, x] for x, y in points]),
                np.minimum(p, g).sum(),
                sum(a * np.log(a / b) for a, b in zip(g.ravel(), p.ravel(), strict=True) if a > 0),
            )
        )
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("every", [1, 3])
def test_scores_are_a_computation_by_hand(model, root, every):
    items = open_dataset("avad", root, "test", fold=1)
    assert len(items) == 2
    evaluation = evaluate_videos(model, items, every=every)
    own = [row for row in evaluation.rows if row.predictor == MODEL]
    assert [row.item for row in own] == ["V1", "V4"]
    for row, item in zip(own, items, strict=True):
        scores = row.scores
        # The field's constants under logarithms and in divisors are 1e-12 to 1e-16.
        found = (scores.cc, scores.nss, scores.sim, scores.kl)
        np.testing.assert_allclose(found, by_hand(model, item, every), rtol=1e-6, atol=1e-7)
    summary = evaluation.summary()["all"]
    assert summary[MODEL]["cc"] == pytest.approx(np.mean([row.scores.cc for row in own]))
    assert set(summary) == {MODEL, MUTED, GAZE_PRIOR}


@pytest.mark.parametrize(
    ("dataset", "fold"),
    [
        ("dhf1k", None),
        ("ucf-sports", None),
        ("diem", None),
        ("coutrot1", 1),
        ("coutrot2", 2),
        ("summe", 3),
        ("etmd", 1),
        ("videos", None),
    ],
)
def test_every_data_set_is_scored(model, make_miniature, dataset, fold):
    root = make_miniature(dataset, count=5)
    items = open_dataset(dataset, root, "validation", fold=fold)
    rows = [row for row in evaluate_videos(model, items, every=4, examples=0).rows if row.predictor == MODEL]
    assert [row.item for row in rows] == [item.name for item in items]
    assert all(np.isfinite([row.scores.cc, row.scores.nss, row.scores.sim, row.scores.kl]).all() for row in rows)


def test_the_prior_gains_no_information_over_itself(model, root):
    evaluation = evaluate_videos(model, open_dataset("avad", root, "test", fold=1), every=3)
    for row in evaluation.rows:
        if row.predictor == GAZE_PRIOR:
            assert row.scores.information_gain == pytest.approx(0, abs=1e-6)
        assert 0 <= row.scores.shuffled_auc <= 1
        assert 0 <= row.scores.auc_judd <= 1
    assert len(evaluation.examples) == 2
    names = {MODEL, MUTED, GAZE_PRIOR, *(f"decoder {level}" for level in (1, 2, 3, 4))}
    for example in evaluation.examples:
        assert set(example.maps) == names
        assert all(m.shape == example.frame.shape[:2] for m in (example.density, *example.maps.values()))


def test_a_perfect_prediction_scores_so(root):
    """A model that knows the truth: CC and SIM 1, KL 0."""
    items = open_dataset("avad", root, "test", fold=1)

    class Knowing(torch.nn.Module):
        config = dataclasses.replace(PRESETS["tiny"].resized(frames=4, height=64, width=96), decoder="single")

        def __init__(self, item):
            super().__init__()
            self.maps = iter([item.density(index) for index in range(item.frame_count) for _ in range(2)])

        def forward(self, _video, _audio):
            return torch.from_numpy(next(self.maps).copy())[None, None]

    for item in items:
        (row, *_) = evaluate_videos(Knowing(item), [item]).rows
        assert row.predictor == MODEL
        assert row.scores.cc == pytest.approx(1, abs=1e-6)
        assert row.scores.sim == pytest.approx(1, abs=1e-6)
        assert row.scores.kl == pytest.approx(0, abs=1e-5)
        assert row.scores.shuffled_auc is None  # there is no other video


def test_a_visual_model_and_frames_without_maps(make_miniature):
    root = make_miniature("dhf1k", count=6, validation=(601, 602))
    (root / "annotation" / "0601" / "maps" / "0003.png").unlink()
    model = seeded_model(PRESETS["tiny-v"].resized(frames=4, height=64, width=96)).eval()
    items = open_dataset("dhf1k", root, "validation")
    evaluation = evaluate_videos(model, items)
    assert {row.predictor for row in evaluation.rows} == {MODEL, GAZE_PRIOR}
    assert np.isfinite([row.scores.cc for row in evaluation.rows]).all()


def test_the_command_writes_everything(model, root, tmp_path, capsys):
    save_weights(model, tmp_path / "w.safetensors")
    out = tmp_path / "scores"
    arguments = ["evaluate", str(tmp_path / "w.safetensors"), "--dataset", "avad", "--data", str(root), "--fold", "2"]
    arguments += ["--every", "3", "-o", str(out)]
    assert cli.main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "scores.json").read_text())
    assert (printed["set"], printed["fold"], printed["items"], printed["every"]) == ("avad", 2, 1, 3)
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["predictor"] for row in rows} == {MODEL, MUTED}  # of one video there is no prior
    assert float(rows[0]["cc"]) == pytest.approx(printed["scores"]["all"][MODEL]["cc"], abs=1e-5)
    assert "| all | CC | NSS |" in (out / "scores.md").read_text()
    for name in ("examples.png", "cc.png", "nss.png"):
        assert min(Image.open(out / name).size) > 50
    assert cli.main(arguments) == 2
    assert "holds scores already" in capsys.readouterr().err


def test_every_file_says_its_convention_and_another_ones_is_refused(model, root, tmp_path, capsys):
    save_weights(model, tmp_path / "w.safetensors")
    arguments = ["evaluate", str(tmp_path / "w.safetensors"), "--dataset", "avad", "--data", str(root), "--fold", "2"]
    arguments += ["--every", "6", "-o"]
    assert cli.main([*arguments, str(tmp_path / "exact")]) == 0
    assert cli.main([*arguments, str(tmp_path / "mit"), "--convention", "mit"]) == 0
    exact, mit = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("exact", "mit"))
    assert (exact["convention"], mit["convention"]) == ("exact", "mit")
    assert "--convention mit" in mit["command"]
    assert mit["scores"]["all"][MODEL]["sim"] != exact["scores"]["all"][MODEL]["sim"]
    assert "convention `mit`" in (tmp_path / "mit" / "scores.md").read_text()
    with (tmp_path / "mit" / "scores.csv").open() as file:
        assert {row["convention"] for row in csv.DictReader(file)} == {"mit"}
    capsys.readouterr()
    beside = ["--convention", "mit", "--beside"]
    (tmp_path / "old.json").write_text(json.dumps({"scores": {"all": {}}, "weights": {"file": "w"}}))
    (tmp_path / "bad.json").write_text(json.dumps(mit | {"scores": {"all": {"model": {"cc": "high"}}}}))
    other_fold = tmp_path / "other.json"
    other_fold.write_text(json.dumps(mit | {"fold": 1}))
    for file, message in (
        (tmp_path / "exact" / "scores.json", "was scored under the convention 'exact', and these scores are 'mit'"),
        (tmp_path / "old.json", "under a convention that it does not name"),
        (tmp_path / "nothing.json", "is not a scores.json"),
        (tmp_path / "bad.json", "is not a scores.json"),
        (other_fold, "have fold 1, and these 2"),
    ):
        assert cli.main([*arguments, str(tmp_path / "b"), *beside, str(file)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
    assert cli.main([*arguments, str(tmp_path / "b"), *beside, str(tmp_path / "mit" / "scores.json")]) == 0
    both = json.loads((tmp_path / "b" / "scores.json").read_text())["scores"]["all"]
    assert both[MODEL] == both[f"{MODEL} (w.safetensors)"]


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--dataset", "avad"], 2, "needs both"),
        (["--dataset", "avad", "--data", "x", "--synthetic", "3"], 2, "scored by itself"),
        (["--dataset", "avad", "--data", "x", "--split", "all"], 2, "there is no split 'all'"),
        (["--dataset", "avad", "--data", "nowhere", "--fold", "1"], 3, "there is no folder nowhere"),
        (["--dataset", "nothing", "--data", "."], 2, "there is no dataset 'nothing'"),
        ([], 2, "say what to score on"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(tmp_path, capsys, extra, code, message):
    assert cli.main(["evaluate", "w.safetensors", "-o", str(tmp_path / "o"), *extra]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_every_must_be_positive(model, root, tmp_path, capsys):
    save_weights(model, tmp_path / "w.safetensors")
    arguments = ["evaluate", str(tmp_path / "w.safetensors"), "--dataset", "avad", "--data", str(root), "--fold", "1"]
    assert cli.main([*arguments, "-o", str(tmp_path / "o"), "--every", "0"]) == 2
    assert "every must be at least 1" in capsys.readouterr().err
