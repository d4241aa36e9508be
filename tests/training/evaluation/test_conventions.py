"""Each convention against an independent transcription of the code that it repeats, and pysaliency's numbers."""

import itertools
import json
import math
import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.training.cli.evaluate import CONVENTION_NAMES
from dtfsal.training.evaluation.conventions import CONVENTIONS, convention_named, score_by
from dtfsal.training.evaluation.metrics import Scores

HERE = Path(__file__).parent
CASES = runpy.run_path(str(HERE / "convention_cases.py"))["cases"]()
GOLDEN = json.loads((HERE / "golden_conventions.json").read_text())
NEAR = 1e-9  # float64 sums in another order, of maps with up to a hundred times their spread below them


def five(scores: Scores):
    return scores.cc, scores.nss, scores.sim, scores.kl, scores.auc_judd


def same(ours, theirs):
    theirs = [math.nan if value is None else value for value in theirs]
    return ours == pytest.approx(theirs, rel=NEAR, abs=NEAR, nan_ok=True)


def curve_area(pixels, positives, others):
    """Fractions all the way: from (0, 0) to each point at a positive, largest first, and to (1, 1)."""
    points = [(Fraction(0), Fraction(0))]
    for i, threshold in enumerate(sorted(positives, reverse=True), 1):
        reached = sum(value >= threshold for value in pixels)
        points.append((Fraction(reached - i, others), Fraction(i, len(positives))))
    points.append((Fraction(1), Fraction(1)))
    return float(sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points)))


def mit(values, points, density):
    """The MATLAB code's formulas, pixel by pixel; None is NaN."""
    width = values.shape[1]
    pixels = [float(v) for v in values.ravel()]
    truth = [float(v) for v in density.ravel()]
    fixated = sorted({int(y) * width + int(x) for x, y in points})
    n = len(pixels)

    def centred(of):
        mean = math.fsum(of) / n
        return [value - mean for value in of]

    def shares(of):
        total = math.fsum(of)
        return [value / total for value in of] if any(of) else of

    def from_zero(of):
        low, high = min(of), max(of)
        return [(value - low) / (high - low) for value in of]

    flat, flat_truth = len(set(pixels)) == 1, len(set(truth)) == 1
    a, b = centred(pixels), centred(truth)
    cc = nss = sim = None
    if not (flat or flat_truth):
        cc = math.fsum(x * y for x, y in zip(a, b, strict=True))
        cc /= math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    if not flat:
        deviation = math.sqrt(math.fsum(x * x for x in a) / (n - 1))
        nss = math.fsum(a[i] for i in fixated) / deviation / len(fixated)
    # The code scales a map to 0..1 before its shares, unless it is zero everywhere; of a constant one, that is 0 / 0.
    if not any(pixels):
        sim = 0.0
    elif not (flat or flat_truth):
        p, q = shares(from_zero(pixels)), shares(from_zero(truth))
        sim = math.fsum(min(x, y) for x, y in zip(p, q, strict=True))
    epsilon = 2.0**-52
    p, q = shares(pixels), shares(truth)
    kl = math.fsum(y * math.log(epsilon + y / (x + epsilon)) for x, y in zip(p, q, strict=True))
    auc = 0.5 if flat else None
    if not flat and len(fixated) < n:
        auc = curve_area(pixels, [pixels[i] for i in fixated], n - len(fixated))
    return cc, nss, sim, kl, auc


@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_mit_is_the_transcription(case):
    _, values, points, density = case
    ours, theirs = five(score_by("mit", values, points, density)), mit(values, points, density)
    assert same(ours, theirs)
    assert ours[4] == theirs[4]  # exactly, ties included


@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_pysaliency_is_pysaliencys(case):
    name, values, points, density = case
    assert same(five(score_by("pysaliency", values, points, density)), GOLDEN[name])


def test_there_are_as_many_cases_as_were_promised():
    assert len(CASES) == len(GOLDEN) == 220
    assert sum(name.startswith("random") for name in GOLDEN) == 200


def with_constant(values, density, constant):
    """The challenges' CC, NSS and SIM, as their script's comments describe them."""
    s, g = ((m - m.min()) / (m.max() - m.min() + np.finfo(np.float32).eps) for m in (values, density))
    z, y = ((m - m.mean()) / (m.std() + constant) for m in (s, g))
    cc = (z * y).sum() / math.sqrt((z**2).sum() * (y**2).sum() + constant)
    p, q = s / (s.sum() + constant), g / (g.sum() + constant)
    return s, z, cc, np.minimum(p, q).sum()


@pytest.mark.parametrize("case", CASES[::10], ids=[name for name, *_ in CASES[::10]])
def test_challenge_is_the_transcription(case):
    _, values, points, density = case
    s, z, cc, sim = with_constant(values, density, 1e-7)
    scores = score_by("challenge", values, points, density)
    assert scores.cc == pytest.approx(cc, abs=1e-6)
    assert scores.sim == pytest.approx(sim, abs=1e-9)
    assert scores.nss == pytest.approx(np.mean([z[y, x] for x, y in points]), abs=1e-6)
    different = np.unique(points, axis=1).shape[-1]  # along the wrong axis, as the script has it: one or two
    positives = [float(s[y, x]) for x, y in points]
    expected = curve_area(s.ravel().tolist(), positives, s.size - different)
    assert scores.auc_judd == expected


@pytest.mark.parametrize("case", CASES[5::10], ids=[name for name, *_ in CASES[5::10]])
def test_crowdsal_is_the_transcription(case):
    _, values, points, density = case
    s, z, cc, sim = with_constant(values, density, np.finfo(np.float32).eps)
    scores = score_by("crowdsal", values, points, density)
    assert scores.cc == pytest.approx(cc, abs=1e-6)
    assert scores.sim == pytest.approx(sim, abs=1e-6)
    assert scores.nss == pytest.approx(np.mean([z[y, x] for x, y in points]), abs=1e-6)
    levels = np.rint(s * 65535)
    hits = [levels[y, x] for x, y in points]
    fixated = {(int(x), int(y)) for x, y in points}
    negatives = [v for (y, x), v in np.ndenumerate(levels) if (x, y) not in fixated]
    thresholds = sorted(set(hits), reverse=True)
    x, y = ([0.0, *(np.mean([v >= t for v in of]) for t in thresholds), 1.0] for of in (negatives, hits))
    assert scores.auc_judd == pytest.approx(np.trapezoid(y, x), abs=1e-12)


def test_exact_is_the_metrics_own():
    _, values, points, density = CASES[0]
    from dtfsal.training.evaluation.metrics import score

    assert score_by("exact", values, points, density) == score(values, points, density)


def test_a_floor_is_free_under_mit_and_costs_sim_elsewhere():
    """The audit's finding, on one map: what a floor changes."""
    _, values, points, density = CASES[-4]  # a high floor
    low = values - values.min()
    assert score_by("mit", values, points, density).sim == pytest.approx(score_by("mit", low, points, density).sim)
    raised, level = (score_by("exact", v, points, density).sim for v in (values, low))
    assert raised - level > 0.04


@pytest.mark.parametrize("name", CONVENTIONS)
def test_frames_without_ground_truth_are_nan(name):
    _, values, points, density = CASES[0]
    blind = score_by(name, values, np.empty((0, 2)), density)
    assert math.isnan(blind.nss)
    assert math.isnan(blind.auc_judd)
    unmapped = score_by(name, values, points, np.zeros_like(density))
    assert all(math.isnan(value) for value in (unmapped.cc, unmapped.sim, unmapped.kl))


def test_the_commands_offer_all_of_them():
    assert tuple(CONVENTIONS) == CONVENTION_NAMES


def test_there_is_no_other_convention():
    with pytest.raises(UsageError, match="there is no convention 'judd'; choose one of exact, mit"):
        convention_named("judd")
