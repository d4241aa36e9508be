"""Evaluation on a miniature: its means, its controls, its baselines and its page, against what is known of them."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dtfsal.runtime.cli import main
from dtfsal.training.data.camera import Shot
from dtfsal.training.data.clips import StillClip
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.photograph_sets import PhotographSet
from dtfsal.training.data.stills import Still
from dtfsal.training.evaluation.baselines import blurred, frame_difference, static_saliency
from dtfsal.training.evaluation.evaluate import (
    ANY_SOUND,
    CENTRE,
    FRAME_DIFFERENCE,
    GAZE_PRIOR,
    HALF,
    MODEL,
    MODEL_ON_HALF,
    MUTED,
    SWAPPED,
    TRUTH,
    Evaluation,
    Row,
    centre_gaussian,
    evaluate_clips,
    evaluate_stills,
    half_scores,
    mean_density,
)
from dtfsal.training.evaluation.metrics import Scores, cc, mean_scores, score
from dtfsal.training.evaluation.page import CELL_WIDTH, draw_page, heat_overlay
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import save_weights

SMALL = PRESETS["lite"].resized(frames=4, height=64, width=96)


@pytest.fixture(scope="module")
def model():
    return seeded_model(SMALL, seed=1)


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("stills"), np.random.default_rng(0)
    made = []
    for number in range(2):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(path)
        made.append(Still(path.name, path, rng.uniform((5, 5), (115, 85), (20, 2)).astype(np.float32)))
    return made


def moving_clip(seed, samples):
    rng = np.random.default_rng(seed)
    boxes = np.linspace([0, 0, 96, 64], [24, 10, 120, 74], 9)
    rgb = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return StillClip(Shot(boxes, False, 64, 96), rgb, np.array([[60, 40], [50, 30]], np.float32), 12.5, samples)


def test_photographs_are_scored_at_their_own_size_against_all_fixations(model, stills):
    prior = np.random.default_rng(1).random((30, 40)).astype(np.float32)
    evaluation = evaluate_stills(model, stills, prior=prior, sounds=[np.ones(16000, np.float32)], examples=2)
    predictors = {MODEL, ANY_SOUND, GAZE_PRIOR, *static_saliency()}
    assert {row.predictor for row in evaluation.rows} == predictors
    for still, example in zip(stills, evaluation.examples, strict=True):
        density = fixation_density(still.fixations, 90, 120, 120 * 19 / 640)
        for row in (row for row in evaluation.rows if row.item == still.name):
            assert row.scores == score(example.maps[row.predictor], still.fixations, density)
    summary = evaluation.summary()
    mean = np.mean([row.scores.cc for row in evaluation.rows if row.predictor == MODEL])
    assert summary["all"][MODEL]["cc"] == pytest.approx(mean)


def test_clips_are_scored_with_right_no_and_wrong_sound(model):
    rng = np.random.default_rng(2)
    clips = [(f"clip {n}", "pan", moving_clip(n, rng.uniform(-1, 1, 12000).astype(np.float32))) for n in range(2)]
    evaluation = evaluate_clips(model, clips, sigma=3.0, every=4, prior=np.ones((4, 6), np.float32), examples=1)
    by = {(row.item, row.predictor): row.scores for row in evaluation.rows}
    assert {name for _, name in by} == {
        *(MODEL, MUTED, SWAPPED, FRAME_DIFFERENCE, CENTRE, GAZE_PRIOR, TRUTH),
        *static_saliency(),
    }
    assert by["clip 0", MODEL] != by["clip 0", MUTED] != by["clip 0", SWAPPED]
    assert by["clip 0", GAZE_PRIOR].cc == 0  # a constant map
    # The frame difference by hand, over the two scored frames.
    clip = clips[0][2]
    frames, scores = clip.frames, []
    for target in (4, 8):
        density = fixation_density(clip.fixations(target), 64, 96, 3.0)
        scores.append(score(frame_difference(frames[target - 1], frames[target]), clip.fixations(target), density))
    assert by["clip 0", FRAME_DIFFERENCE] == mean_scores(scores)


def test_the_worst_are_those_with_the_lowest_cc(model, stills, monkeypatch):
    monkeypatch.setattr("dtfsal.training.evaluation.evaluate.WORST", 1)
    evaluation = evaluate_stills(model, stills, examples=0)
    scores = sorted((row.scores.cc, row.item) for row in evaluation.rows if row.predictor == MODEL)
    assert len(scores) > 1
    assert [example.title for example in evaluation.worst] == [f"{item}, CC {cc:.2f}" for cc, item in scores[:1]]
    assert len((evaluation + evaluation).worst) == 2


def test_a_single_clip_has_no_sound_to_swap_with(model):
    evaluation = evaluate_clips(model, [("alone", "pan", moving_clip(0, None))], sigma=3.0)
    assert SWAPPED not in {row.predictor for row in evaluation.rows}


def test_half_of_the_observers_predict_the_other_half(stills):
    still = stills[0]
    assert half_scores(still, np.ones((90, 120), np.float32), np.random.default_rng(0)) == {}  # who is not known
    two = dataclasses.replace(still, observers=("a",) * 12 + ("b",) * 8)
    saliency_map = np.random.default_rng(1).random((90, 120)).astype(np.float32)
    scores = half_scores(two, saliency_map, np.random.default_rng(0))
    # Of two observers there is one pair of halves: each predicts the other, whatever is drawn.
    halves = [still.fixations[:12], still.fixations[12:]]
    densities = [fixation_density(points, 90, 120, 120 * 19 / 640) for points in halves]
    assert scores[HALF].cc == pytest.approx(cc(*densities))
    both = [score(densities[1 - i], halves[i], densities[i]).nss for i in (0, 1)]
    assert scores[HALF].nss == pytest.approx(np.mean(both))
    assert scores[MODEL_ON_HALF].cc == pytest.approx(np.mean([cc(saliency_map, density) for density in densities]))
    # Observers who agree are predicted perfectly.
    agreed = dataclasses.replace(
        still, fixations=np.tile(still.fixations, (4, 1)), observers=tuple(np.repeat(list("abcd"), 20))
    )
    assert half_scores(agreed, saliency_map, np.random.default_rng(0))[HALF].cc == pytest.approx(1)


def test_gains_are_paired_by_item():
    def row(item, predictor, value):
        return Row(item, "kind", predictor, Scores(cc=value, nss=0, sim=0, kl=0, auc_judd=0))

    values = [0.1, 0.9, 0.4, 0.7]
    rows = [row(f"{n}", MODEL, value) for n, value in enumerate(values)]
    rows += [row(f"{n}", MUTED, value - 0.05) for n, value in enumerate(values)]
    evaluation = Evaluation(rows, [])
    # Items differ by far more than the predictors do, and by the same on every item.
    assert evaluation.gains()["kind"][MUTED]["cc"] == pytest.approx((0.05, 0.05, 0.05))
    low, high = evaluation.intervals()["all"][MODEL]["cc"]
    assert 0.1 <= low < np.mean(values) < high <= 0.9


def test_the_centre_is_in_the_middle():
    values = centre_gaussian(40, 60)
    np.testing.assert_allclose(values, values[::-1, ::-1])
    assert values[19, 30] == values.max()
    # A standard deviation is a fifth of the size: 12 pixels across.
    assert values[20, 30 + 12] / values[20, 30] == pytest.approx(np.exp(-0.5 * (12.5**2 - 0.5**2) / 144))


def test_baselines_show_what_they_are_named_for():
    before, now = np.zeros((60, 100, 3), np.uint8), np.zeros((60, 100, 3), np.uint8)
    now[20:30, 60:70] = 200
    difference = frame_difference(before, now)
    assert np.unravel_index(difference.argmax(), difference.shape) == pytest.approx((24.5, 64.5), abs=2)
    assert not frame_difference(now, now).any()
    assert blurred(np.zeros((4, 4), np.float32)).max() == 0
    for compute in static_saliency().values():
        found = compute(now)
        assert found.shape == (60, 100)
        assert found[15:35, 55:75].mean() > found.mean()


def test_the_mean_of_densities_of_several_sizes():
    first, second = np.ones((6, 8)), np.zeros((12, 16))
    np.testing.assert_allclose(mean_density([first, second], 3, 4), np.full((3, 4), 0.5))


def test_the_page_shows_frame_gaze_and_every_predictor(model, stills):
    evaluation = evaluate_stills(model, stills, examples=2)
    page = draw_page(evaluation.examples)
    assert page.width > CELL_WIDTH * (2 + len(evaluation.examples[0].maps))
    frame = np.full((4, 4, 3), 100, np.uint8)
    saliency_map = np.zeros((4, 4), np.float32)
    saliency_map[1, 2] = 3
    heat = heat_overlay(frame, saliency_map)
    assert (heat[0, 0] == 70).all()
    assert heat[1, 2].sum() > 2 * heat[0, 0].sum()


@pytest.fixture
def weights(model, tmp_path):
    save_weights(model, tmp_path / "small.safetensors", half=True)
    return tmp_path / "small.safetensors"


def test_the_command_writes_scores_as_json_table_and_pictures(weights, tmp_path, capsys):
    photographs = tmp_path / "pictures"
    photographs.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(
        photographs / "a.png"
    )
    arguments = ["evaluate", str(weights), "--synthetic", "2", "--photographs", str(photographs), "--kind", "motion"]
    assert main([*arguments, "-o", str(tmp_path / "scores"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "scores" / "scores.json").read_text())
    with (tmp_path / "scores" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    cc = [float(row["cc"]) for row in rows if row["predictor"] == MODEL]
    assert report["scores"]["all"][MODEL]["cc"] == pytest.approx(np.mean(cc), abs=1e-4)
    assert report["items"] == 2
    for name in ("examples.png", "worst.png"):
        assert Image.open(tmp_path / "scores" / name).width > 500
    assert main([*arguments, "-o", str(tmp_path / "scores")]) == 2
    assert "holds scores already" in capsys.readouterr().err


def test_still_scenes_are_for_photographs_whose_gaze_is_known(weights, tmp_path, capsys):
    folder = tmp_path / "osie"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(folder / "images" / "a.jpg")
    rows = [f"a.jpg,{i % 3},{i // 3},{x:.1f},{y:.1f},200" for i, (x, y) in enumerate(rng.uniform(20, 200, (30, 2)))]
    (folder / "fixations.csv").write_text("\n".join(["image,observer,order,x,y,duration_ms", *rows]) + "\n")
    arguments = ["evaluate", str(weights), "--synthetic", "1", "--json"]
    assert main([*arguments, "--stills", str(folder), "--split", "all", "-o", str(tmp_path / "a")]) == 0
    known = json.loads(capsys.readouterr().out)
    assert "still" in known["kinds"]
    assert known["command"].endswith("--stills osie --split all --synthetic 1 --seed 1")
    assert main([*arguments, "--photographs", str(folder / "images"), "-o", str(tmp_path / "b")]) == 0
    assert "still" not in json.loads(capsys.readouterr().out)["kinds"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stills", "nowhere"], 3, "needs a folder images/"),
        (["--synthetic", "0"], 2, "at least 1"),
        (["--synthetic", "1", "--photographs", "nowhere"], 3, "is not a folder"),
        (["--synthetic", "1", "--cutouts", "."], 3, "transparent parts"),
        (["--synthetic", "1", "--kind", "loud"], 2, "no kind of scene"),
        (["--synthetic", "1", "--seed", "-1"], 2, "--seed: must be a whole number from 0 to 4294967295"),
        ([], 2, "say what to score on"),
        (["--stills", ".", "--kind", "motion"], 2, "add --synthetic"),
        (["--stills", ".", "--synthetic", "1", "--photographs", "."], 2, "leave one of them out"),
    ],
)
def test_wrong_arguments_are_one_sentence(weights, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(weights), *arguments, "-o", "scores"]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "scores").exists()


def test_scenes_are_written_with_sound_and_gaze(tmp_path, capsys):
    from dtfsal.runtime.media.video import probe

    photographs = tmp_path / "pictures"
    photographs.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(
        photographs / "a.png"
    )
    command = [
        "synth",
        "-o",
        str(tmp_path / "out"),
        "--count",
        "1",
        "--seconds",
        "1",
        "--photographs",
        str(photographs),
    ]
    assert main([*command, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    info = probe(made[0]["video"])
    assert (info.width, info.height, info.has_audio) == (384, 224, True)
    with (tmp_path / "out" / "scene_0000.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 * 24
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--force", "--plain"]) == 0


def test_each_set_is_a_group_with_its_prior_and_intervals(weights, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("crowd", "scene"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rows = []
        for number in range(3):
            rgb = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
            Image.fromarray(rgb).save(folder / "images" / f"{name}_{number}.png")
            rows += [
                f"{name}_{number}.png,{i % 4},0,{x:.1f},{y:.1f},9"
                for i, (x, y) in enumerate(rng.uniform(5, 85, (8, 2)))
            ]
        (folder / "fixations.csv").write_text("\n".join(["image,observer,order,x,y,duration_ms", *rows]) + "\n")
    monkeypatch.setattr(
        PhotographSet,
        "split_names",
        lambda one: {"train": [f"{one.name}_0"], "test": [f"{one.name}_1", f"{one.name}_2"]},
    )
    arguments = ["evaluate", str(weights), "--stills", str(tmp_path / "crowd"), "--stills", str(tmp_path / "scene")]
    assert main([*arguments, "--split", "test", "-o", str(tmp_path / "o"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["scores"]) == ["all", "crowd", "scene"]
    assert report["items"] == 4
    for group in ("crowd", "scene"):
        assert {MODEL, HALF, MODEL_ON_HALF, GAZE_PRIOR} < set(report["scores"][group])
        low, high = report["intervals"][group][MODEL]["cc"]
        assert low <= report["scores"][group][MODEL]["cc"] <= high
        gain = report["gains"][group][GAZE_PRIOR]["cc"][0]
        of = report["scores"][group]
        assert gain == pytest.approx(of[MODEL]["cc"] - of[GAZE_PRIOR]["cc"], abs=2e-5)
    assert "in brackets 95 % intervals" in (tmp_path / "o" / "scores.md").read_text()
    assert main([*arguments, "-o", str(tmp_path / "p")]) == 2
    assert "have no split 'validation'; choose one of train, test" in capsys.readouterr().err
