"""The training guide's commands in order, with the experiments' files, on miniatures in the layouts of downloads."""

import json
from pathlib import Path

import pytest

from dtfsal.runtime.cli import main
from dtfsal.training.trainer.experiment import read_experiment

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
SIZE = "frames: 4, height: 64, width: 96"


def settings(**changes):
    return [word for name, value in changes.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]


def test_the_guide_leads_from_the_downloads_to_scores_of_both_stages(make_miniature, tmp_path, capsys):
    dhf1k = make_miniature("dhf1k", tmp_path / "dhf1k", layout="avi", count=6, train=(1, 2, 3))
    audio_visual = make_miniature("avad", tmp_path / "av", count=6, videos=tuple(f"V{n}" for n in range(6)))
    assert main(["prepare", "dhf1k", "--source", str(dhf1k)]) == 0
    assert main(["check", "dhf1k", str(dhf1k), "--allow", "missing-video"]) == 0
    assert main(["check", "avad", str(audio_visual)]) == 0
    quick = {"data__workers": 0, "schedule__epochs": 1, "data__validation_every": 4}
    first, second = tmp_path / "runs" / "dhf1k", tmp_path / "runs" / "avad"
    changes = settings(model=f"{{preset: tiny-v, target: centre, {SIZE}}}", start="{}", data__root=dhf1k, **quick)
    assert main(["train", str(EXPERIMENTS / "dhf1k.yaml"), "-o", str(first), "--device", "cpu", *changes]) == 0
    start = f"{{weights: {first / 'best.safetensors'}}}"
    model = f"{{preset: tiny, target: centre, {SIZE}}}"
    changes = settings(model=model, start=start, data__root=audio_visual, **quick)
    assert main(["train", str(EXPERIMENTS / "avad.yaml"), "-o", str(second), "--device", "cpu", *changes]) == 0
    for run, dataset, data, part in (
        (first, "dhf1k", dhf1k, ["--split", "validation"]),
        (second, "avad", audio_visual, ["--fold", "1"]),
    ):
        out = tmp_path / "scores" / dataset
        arguments = ["evaluate", str(run / "best.safetensors"), "--dataset", dataset, "--data", str(data), *part]
        assert main([*arguments, "--convention", "mit", "--every", "5", "-o", str(out)]) == 0
        scores = json.loads((out / "scores.json").read_text())
        assert (scores["convention"], scores["set"]) == ("mit", dataset)
    experiment = json.loads((first / "run.json").read_text())["experiment"]
    assert (experiment["data"]["window_every"], experiment["model"]["target"]) == (16, "centre")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_one(path):
    assert read_experiment(path).name
