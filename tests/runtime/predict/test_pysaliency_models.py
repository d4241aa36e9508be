"""pysaliency's evaluation of our predictor, beside our own of the same photographs; in an environment that has it.

    pip install '.[pysaliency,export]' pytest hypothesis && pytest tests/runtime/predict/test_pysaliency_models.py

pysaliency needs a C compiler to be installed, and NumPy before 2.4.
"""

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

from dtfsal import SaliencyPredictor
from dtfsal.engines import UnavailableError, UsageError
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.stills import DEGREE_OF_WIDTH, Still
from dtfsal.training.evaluation.evaluate import MODEL, evaluate_stills
from dtfsal.training.evaluation.metrics import information_gain
from dtfsal.training.model.weights import load_weights

SIZE = 120, 160  # larger than the maps of `lite_engine`, which are filtered where they shrink


@pytest.fixture
def pysaliency():
    return pytest.importorskip("pysaliency", exc_type=ImportError)


@pytest.fixture
def models(pysaliency):
    return importlib.import_module("dtfsal.runtime.predict.pysaliency_models")


@pytest.fixture
def stills(tmp_path):
    """OSIE in miniature: ten photographs with fixations, some on the same pixel and some outside."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
        points = rng.normal((80, 60), (50, 40), (60, 2)).astype(np.float32)
        points = np.concatenate([points, points[:3]])
        made.append(Still(f"{number}.png", tmp_path / f"{number}.png", points))
    return made


def as_pysaliency(pysaliency, stills):
    """The photographs and their fixations as pysaliency wants them: edges of pixels at integers, none outside."""
    stimuli = pysaliency.Stimuli([still.read() for still in stills])
    points = np.concatenate([still.fixations for still in stills]).astype(np.float64) + 0.5
    numbers = np.repeat(np.arange(len(stills)), [len(still.fixations) for still in stills])
    fixations = pysaliency.Fixations.create_without_history(points[:, 0], points[:, 1], numbers)
    return stimuli, pysaliency.remove_out_of_stimulus_fixations(stimuli, fixations)


def test_scores_of_photographs_are_those_of_our_evaluation(pysaliency, models, stills, request):
    # Asked for here, since fixtures of the session would be built before the test is skipped.
    lite_weights, lite_engine = map(request.getfixturevalue, ("lite_weights", "lite_engine"))
    ours = [row.scores for row in evaluate_stills(load_weights(lite_weights), stills).rows if row.predictor == MODEL]
    stimuli, fixations = as_pysaliency(pysaliency, stills)
    densities = [fixation_density(still.fixations, *SIZE, DEGREE_OF_WIDTH * SIZE[1]) for still in stills]
    gold = pysaliency.saliency_map_models.LambdaSaliencyMapModel([], fn=None)
    by_id = dict(zip(stimuli.stimulus_ids, densities, strict=True))
    gold.saliency_map = lambda stimulus: by_id[stimulus.stimulus_id]
    with SaliencyPredictor(lite_engine) as predictor:
        model = models.StillMaps(predictor)
        nss = model.NSSs(stimuli, fixations)
        theirs = {
            "auc_judd": model.AUC_per_image(stimuli, fixations, nonfixations="unfixated"),
            "nss": [nss[fixations.n == number].mean() for number in range(len(stills))],
            "cc": model.CCs(stimuli, gold),
            "sim": model.SIMs(stimuli, gold),
        }
        density = models.Densities(model)
        baseline = pysaliency.UniformModel()
        gains = density.log_likelihoods(stimuli, fixations) - baseline.log_likelihoods(stimuli, fixations)
        for number, still in enumerate(stills):
            expected = information_gain(model.saliency_map(stimuli[number]), still.fixations, np.ones(SIZE))
            assert gains[fixations.n == number].mean() / np.log(2) == pytest.approx(expected, abs=1e-9)
            assert np.exp(density.log_density(stimuli[number])).sum() == pytest.approx(1, abs=1e-9)
    assert model.NSS(stimuli, fixations, average="image") == pytest.approx(np.mean(theirs["nss"]), abs=1e-12)
    assert len(fixations.x) < sum(len(still.fixations) for still in stills)
    for metric, scores in theirs.items():
        # The engine and PyTorch round differently, so single photographs may differ by some 1e-6.
        assert np.mean(scores) == pytest.approx(np.mean([getattr(one, metric) for one in ours]), abs=1e-6), metric
        assert scores == pytest.approx([getattr(one, metric) for one in ours], abs=1e-5), metric


def test_grey_photographs_and_what_is_none(pysaliency, models, toy_engine):
    grey = np.random.default_rng(1).integers(0, 256, (30, 50), np.uint8)
    with SaliencyPredictor(toy_engine) as predictor:
        model = models.StillMaps(predictor)
        assert np.array_equal(model.saliency_map(grey), model.saliency_map(np.stack([grey] * 3, axis=2)))
        for bad in (np.zeros((30, 50, 4), np.uint8), np.zeros((30, 50, 3))):
            with pytest.raises(UsageError, match=r"must be .* uint8"):
                model.saliency_map(bad)


def test_frames_of_a_video_have_the_maps_of_their_windows(pysaliency, models, toy_engine):
    video = np.random.default_rng(2).integers(0, 256, (9, 48, 80, 3), np.uint8)
    video[5] = video[2]  # looks the same, and its window does not
    samples = np.sin(np.arange(8000) / 5).astype(np.float32)
    frames = pysaliency.Stimuli(list(video))
    with SaliencyPredictor(toy_engine) as predictor:
        expected = predictor.predict_arrays(video, 25, samples, 16000)
        model = models.VideoMaps(predictor, frames, 25, samples, 16000)
    assert not np.array_equal(expected[2], expected[5])
    for number, stimulus in enumerate(frames):
        assert np.array_equal(model.saliency_map(stimulus), expected[number].astype(np.float64))
    assert np.array_equal(model.saliency_map(video[3]), expected[3])
    for unknown, words in ((video[2], "2 frames of the video"), (255 - video[0], "no frame of the video")):
        with pytest.raises(UsageError, match=words):
            model.saliency_map(unknown)
    rows, columns = np.array([3.5, 20.5]), np.array([70.5, 8.5])
    fixations = pysaliency.Fixations.create_without_history(columns, rows, np.array([2, 5]))
    standardised = [(m - m.mean()) / m.std() for m in expected.astype(np.float64)]
    assert model.NSSs(frames, fixations) == pytest.approx([standardised[2][3, 70], standardised[5][20, 8]], abs=1e-9)
    assert models.Densities(model).log_likelihoods(frames, fixations) == pytest.approx(
        [
            np.log(m[place] / m.sum())
            for m, place in zip(expected[[2, 5]].astype(float), [(3, 70), (20, 8)], strict=True)
        ],
        abs=1e-9,
    )


def test_without_pysaliency_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysaliency", None)
    monkeypatch.delitem(sys.modules, "dtfsal.runtime.predict.pysaliency_models", raising=False)
    with pytest.raises(UnavailableError, match=r"pip install 'dtfsal\[pysaliency\]'"):
        importlib.import_module("dtfsal.runtime.predict.pysaliency_models")
