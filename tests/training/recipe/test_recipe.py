"""The recipe of the shipped weights, in miniature: it learns, repeats itself, and takes up where it was stopped."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dtfsal.training.recipe.recipe as recipe_module
from dtfsal.runtime.cli import main
from dtfsal.training.data.clips import CutClip
from dtfsal.training.data.photograph_sets import PhotographSet
from dtfsal.training.data.stills import Still
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.network import build_model
from dtfsal.training.model.weights import load_weights, shipped_weights
from dtfsal.training.recipe.clip_stage import ClipPool, ClipStageConfig
from dtfsal.training.recipe.recipe import Recipe, forget_sound, run_recipe, still_clips
from dtfsal.training.recipe.still_stage import StillStageConfig, predict_stills, random_cuts
from dtfsal.training.synthetic import Photograph, SceneConfig, Sources, generate_scene

SMALL = dataclasses.replace(PRESETS["lite"].resized(frames=4, height=64, width=96), name="small")
MINIATURE = Recipe(
    preset="small",
    stills=StillStageConfig(epochs=2, batch_size=2),
    sound=ClipStageConfig(steps=2, batch_size=2, clips_held=3, deepest_only=True, paired=True),
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


@given(seed=st.integers(0, 2**32), count=st.integers(1, 9), times=st.integers(1, 24))
def test_cuts_leave_every_clip_its_own_photograph_at_the_target(seed, count, times):
    target = seed % times
    shown = random_cuts(np.random.default_rng(seed), count, times, target)
    assert shown.shape == (count, times)
    assert (shown[:, target] == np.arange(count)).all()
    assert ((shown >= 0) & (shown < count)).all()
    assert (np.count_nonzero(np.diff(shown, axis=1), axis=1) <= 1).all()  # one cut at most


def test_every_clip_is_cut():
    cuts = [random_cuts(np.random.default_rng(seed), 4, 16, 8) for seed in range(50)]
    assert all((np.count_nonzero(np.diff(shown, axis=1), axis=1) == 1).all() for shown in cuts)
    at = {int(np.flatnonzero(np.diff(row))[0]) for shown in cuts for row in shown}
    assert at == set(range(15))  # at every place


def test_stills_that_are_cut_have_the_map_of_what_they_show():
    """A clip that shows one photograph all the time has its map, whatever else is in the batch."""
    torch.manual_seed(0)
    model = build_model(SMALL).eval()
    frames = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        alone = predict_stills(model, frames)
        swapped = predict_stills(model, frames, np.repeat([[1], [2], [0]], 4, axis=1))
        cut = predict_stills(model, frames, np.array([[0, 0, 1, 1], [1] * 4, [2] * 4]))
    torch.testing.assert_close(swapped, alone[[1, 2, 0]])
    torch.testing.assert_close(cut[1:], alone[1:])
    assert (cut[0] - alone[0]).abs().max() > 1e-4


@pytest.mark.parametrize("frames", [4, 16])
def test_at_rest_one_time_stands_for_all(frames):
    """The cheap way gives the maps and gradients of windows that repeat their frame, in training too."""
    torch.manual_seed(0)
    model = build_model(SMALL.resized(frames=frames)).double()
    model.encoder.eval()
    photographs = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    repeated = np.repeat([[0], [1]], frames, axis=1)
    for training in (False, True):
        model.decoders.train(training)
        grads = []
        for shown in (None, repeated):
            model.zero_grad()
            maps = predict_stills(model, photographs, shown)
            maps.sum().backward()
            found = [p.grad.clone() for p in model.decoders.parameters() if p.grad is not None]
            grads.append([maps.detach(), *found])
        assert len(grads[0]) == len(grads[1])
        for cheap, whole in zip(*grads, strict=True):
            torch.testing.assert_close(cheap, whole, rtol=1e-7, atol=1e-9)  # sums in another order


def test_photographs_at_rest_are_cut_as_often_as_the_recipe_says(stills):
    model = build_model(SMALL)
    photographs = [Photograph.of(still) for still in stills]
    for share, wanted in ((0.0, 0), (1.0, 8)):
        recipe = dataclasses.replace(MINIATURE, cut_share=share)
        clips = still_clips(recipe, model, photographs, seed=1)
        assert sum(isinstance(next(clips), CutClip) for _ in range(8)) == wanted


@pytest.mark.parametrize("lost", [(), ("sound",), ("stills", "sound")])
def test_a_stopped_recipe_goes_on_after_the_last_stage_that_ended(stills, tmp_path, lost):
    whole, _ = run(stills, tmp_path, tmp_path / "a")
    for stage in lost:
        (tmp_path / "a" / f"{stage}.safetensors").unlink()
    resumed, reports = run(stills, tmp_path, tmp_path / "a")
    assert {report[0] for report in reports} == {*lost, "clips"}
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_the_first_stage_goes_on_after_its_last_whole_epoch(stills, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "stills.partial.safetensors").write_bytes(b"damaged: counts as none")
    whole, reports = run(stills, tmp_path, tmp_path / "a")
    assert len(reports) == MINIATURE.total_steps(3)

    class StoppedError(Exception):
        pass

    def stop(_stage, step, _steps, _loss):
        if step == 2:  # of the second epoch; an epoch of three photographs has one step
            raise StoppedError

    with pytest.raises(StoppedError):
        run_recipe(MINIATURE, stills, tmp_path / "imagenet", tmp_path / "b", stop)
    partial = tmp_path / "b" / "stills.partial.safetensors"
    assert partial.exists()
    resumed, reports = run(stills, tmp_path, tmp_path / "b")
    assert [report[1] for report in reports if report[0] == "stills"] == [2]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert not partial.exists()


def test_windows_near_a_change_of_gaze_are_taken_more_often():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    sources = Sources((Photograph("noise", rgb, rng.uniform(5, 55, (9, 2)).astype(np.float32)),))
    config = SceneConfig(height=32, width=64, seconds=8.0, cut_share=0.0, observers=1)
    scene = generate_scene(0, sources, config, kind="onset")
    event = int(scene.gaze_change().argmax())

    def near(share):
        pool = ClipPool(build_model(SMALL), iter(()), np.random.default_rng(1), 1, share)
        targets = np.array([pool._target(scene, config.frames) for _ in range(2000)])
        assert (targets >= 0).all()
        assert (targets < config.frames).all()
        return (np.abs(targets - event) <= 5).mean()

    # 11 of 100 frames are near. With a share of 0.4 most of those windows are: gaze changes most at the onset.
    assert near(0.0) == pytest.approx(0.11, abs=0.03)
    assert near(0.4) > 0.25


def test_a_pair_shows_the_same_frames_with_two_sounds():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    sources = Sources((Photograph("noise", rgb, rng.uniform(5, 55, (9, 2)).astype(np.float32)),))
    config = SceneConfig(height=64, width=96, seconds=0.8, cut_share=0.0, observers=1)

    def variants(seed):
        first = generate_scene(seed, sources, config, kind="sound_decides")
        others = (
            generate_scene(seed, sources, config, kind="sound_decides", voice=voice, drawn=first.frames)
            for voice in range(1, first.things.shape[1])
        )
        return [first, *others]

    pool = ClipPool(build_model(SMALL), iter([variants(0), variants(1)]), np.random.default_rng(1), 2)
    pool.add()
    pool.add()
    for _ in range(20):
        picks = pool.sample(4, paired=True)
        assert len(picks) == 4
        for (one, target), (other, same_target) in zip(picks[::2], picks[1::2], strict=True):
            assert target == same_target
            assert one.features is other.features
            assert not torch.equal(one.slices, other.slices)
            assert not np.array_equal(one.clip.sounding, other.clip.sounding)
        assert picks[0][0].features is not picks[2][0].features


def test_what_hears_is_drawn_anew_before_it_hears():
    """A sound encoder whose units are dead, as silence leaves them, answers to sounds again."""
    torch.manual_seed(0)
    model = build_model(SMALL)
    for module in model.audio.vggish.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.bias.data.fill_(-100)
    audio = model.config.audio
    slices = torch.randn(6, 1, audio.height, audio.width)
    others = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not model.audio.encode_slices(slices).any()
    forget_sound(model)
    assert model.audio.encode_slices(slices).std(0).mean() > 0.1
    assert moved(others, model.state_dict()) == {"audio", "synchrony"}


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
    # Nor those of other photographs, or of these in another order.
    made_by = recipe_module._made_by(MINIATURE, ("stills",), stills)
    assert made_by != recipe_module._made_by(MINIATURE, ("stills",), stills[::-1])


@pytest.mark.xfail(strict=True, reason="the shipped weights are of the first edition's recipe until the second has run")
def test_the_shipped_weights_are_of_this_recipe():
    recorded = json.loads(shipped_weights("lite").with_name("lite.curve.json").read_text())
    assert recorded["recipe"] == json.loads(json.dumps(dataclasses.asdict(Recipe())))


def test_the_shipped_weights_are_those_of_the_preset():
    path = shipped_weights("lite")
    assert path is not None
    assert path.stat().st_size < 15e6
    assert load_weights(path).config == PRESETS["lite"]
    assert shipped_weights("dtfsal") is None


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
    assert main(["train-lite", "osie", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert main(["train", *arguments, "--stills", "osie"]) == code  # the old name
    told, same = capsys.readouterr().err.splitlines()
    assert told.startswith("dtfsal: `dtfsal train --stills` is now `dtfsal train-lite`; ")
    assert same == error.strip()
    assert not list(tmp_path.iterdir())


def test_a_photograph_in_two_sets_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for name, size in (("crowd", (320, 240)), ("scene", (400, 300))):
        (tmp_path / name / "images").mkdir(parents=True)
        picture = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)
        picture.save(tmp_path / name / "images" / f"{name}_1.png")
        row = f"{name}_1.png,0,0,30,40,200\n"
        (tmp_path / name / "fixations.csv").write_text("image,observer,order,x,y,duration_ms\n" + row)
    splits = {"crowd": {"train": ["crowd_1"]}, "scene": {"validation": ["scene_1"], "train": []}}
    monkeypatch.setattr(PhotographSet, "split_names", lambda one: splits[one.name])
    assert main(["train-lite", "crowd", "scene", "--output", "weights.safetensors"]) == 3
    error = capsys.readouterr().err
    assert "scene_1.png and crowd/images/crowd_1.png are the same picture; remove one" in error
    assert not (tmp_path / "weights.safetensors").exists()
