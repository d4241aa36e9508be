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
from dtfsal.training.recipe import STILLS_FILE, Recipe, run_recipe
from dtfsal.training.still_stage import StillStageConfig
from dtfsal.training.weights import load_weights, shipped_weights

SMALL = dataclasses.replace(PRESETS["lite"].resized(frames=4, height=64, width=96), name="small")
MINIATURE = Recipe(
    preset="small",
    stills=StillStageConfig(epochs=2, batch_size=2),
    clips=ClipStageConfig(steps=2, clips_held=2),
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


def test_the_recipe_trains_both_stages_and_repeats_itself(stills, tmp_path):
    first, reports = run(stills, tmp_path, tmp_path / "a")
    assert [report[:3] for report in reports] == [("stills", 1, 2), ("stills", 2, 2), ("clips", 1, 2), ("clips", 2, 2)]
    assert len(reports) == MINIATURE.total_steps(3)
    assert all(np.isfinite(report[3]) for report in reports)
    again, _ = run(stills, tmp_path, tmp_path / "b")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_a_stopped_recipe_goes_on_from_its_first_stage(stills, tmp_path):
    whole, _ = run(stills, tmp_path, tmp_path / "a")
    resumed, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {"clips"}
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_the_second_stage_leaves_the_frame_encoder_alone(stills, tmp_path):
    final, _ = run(stills, tmp_path, tmp_path / "a")
    before = load_weights(tmp_path / "a" / STILLS_FILE).state_dict()
    moved = {name.split(".")[0] for name, tensor in final.items() if not torch.equal(tensor, before[name])}
    assert moved == {"mixing", "audio", "fusion", "decoders", "final"}


def test_the_first_stage_of_another_recipe_is_not_taken(stills, tmp_path, monkeypatch):
    run(stills, tmp_path, tmp_path / "a")
    monkeypatch.setitem(globals(), "MINIATURE", dataclasses.replace(MINIATURE, seed=1))
    _, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {"stills", "clips"}


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
