"""The recipe of the shipped weights, in miniature: it learns, repeats itself, and takes up where it was stopped."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import dtfsal.training.recipe as recipe_module
from dtfsal.runtime.cli import main
from dtfsal.training.clip_stage import ClipStageConfig
from dtfsal.training.config import PRESETS
from dtfsal.training.data.stills import Still
from dtfsal.training.recipe import Recipe, run_recipe
from dtfsal.training.still_stage import StillStageConfig
from dtfsal.training.weights import load_weights, shipped_weights

SMALL = dataclasses.replace(PRESETS["lite"].resized(frames=4, height=64, width=96), name="small")
MINIATURE = Recipe(
    preset="small",
    stills=StillStageConfig(epochs=2, batch_size=2),
    sound=ClipStageConfig(steps=2, batch_size=2, clips_held=3, deepest_only=True),
    clips=ClipStageConfig(steps=2, batch_size=2, clips_held=2),
    clip_seconds=0.8,
)


@pytest.fixture
def stills(tmp_path, monkeypatch):
    """Three photographs, and an encoder that starts from random weights where the recipe wants ImageNet's."""
    monkeypatch.setitem(recipe_module.__dict__, "load_imagenet_weights", lambda _model, _path: None)
    monkeypatch.setitem(PRESETS, "small", SMALL)
    rng = np.random.default_rng(0)
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(path)
        made.append(Still(path.name, path, rng.uniform((50, 40), (270, 200), (20, 2)).astype(np.float32)))
    return made


def run(stills, tmp_path, work, steps=None):
    reports = [] if steps is None else steps
    model = run_recipe(MINIATURE, stills, tmp_path / "imagenet", work, lambda *step: reports.append(step))
    return model.state_dict(), reports


def test_the_recipe_trains_all_stages_and_repeats_itself(stills, tmp_path):
    first, reports = run(stills, tmp_path, tmp_path / "a")
    expected = [(name, step, 2) for name in ("stills", "sound", "clips") for step in (1, 2)]
    assert [report[:3] for report in reports] == expected
    assert len(reports) == MINIATURE.total_steps(3)
    assert all(np.isfinite(report[3]) for report in reports)
    again, _ = run(stills, tmp_path, tmp_path / "b")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.parametrize("lost", [(), ("sound",), ("stills", "sound")])
def test_a_stopped_recipe_goes_on_after_the_last_stage_that_ended(stills, tmp_path, lost):
    whole, _ = run(stills, tmp_path, tmp_path / "a")
    for stage in lost:
        (tmp_path / "a" / f"{stage}.safetensors").unlink()
    resumed, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {*lost, "clips"}
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_each_stage_trains_its_parts(stills, tmp_path):
    final, _ = run(stills, tmp_path, tmp_path / "a")
    stages = [load_weights(tmp_path / "a" / f"{name}.safetensors").state_dict() for name in ("stills", "sound")]
    heard = {"mixing", "audio", "synchrony", "fusion"}
    assert moved(*stages) == {*heard, "decoders.3"}
    assert moved(stages[1], final) == {*heard, *(f"decoders.{level}" for level in range(4)), "final"}


def moved(before, after):
    names = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    return {".".join(name.split(".")[: 2 if name.startswith("decoders") else 1]) for name in names}


def test_the_first_stages_of_another_recipe_are_not_taken(stills, tmp_path, monkeypatch):
    run(stills, tmp_path, tmp_path / "a")
    monkeypatch.setitem(globals(), "MINIATURE", dataclasses.replace(MINIATURE, clip_seconds=0.9))
    _, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {"sound", "clips"}
    monkeypatch.setitem(globals(), "MINIATURE", dataclasses.replace(MINIATURE, seed=1))
    _, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {"stills", "sound", "clips"}


def test_the_shipped_weights_are_those_of_the_preset():
    path = shipped_weights("lite")
    assert path is not None
    assert path.stat().st_size < 15e6
    assert load_weights(path).config == PRESETS["lite"]
    assert shipped_weights("dtfsal") is None
    recorded = json.loads(path.with_name("lite.curve.json").read_text())
    assert recorded["recipe"] == json.loads(json.dumps(dataclasses.asdict(Recipe())))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--output", "weights.pt"], 2, "must be a .safetensors file"),
        (["--output", "nowhere/weights.safetensors"], 2, "in a folder that exists"),
        (["--output", "weights.safetensors"], 3, "needs a folder images/"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--stills", "osie", *arguments]) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
