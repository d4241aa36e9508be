"""Metrics against hand-worked maps, definitions written out as loops, NumPy's correlation, and pysaliency's numbers."""

import dataclasses
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.density import fixation_density
from dtfsal.training.evaluation import metrics
from dtfsal.training.evaluation.metrics import (
    Scores,
    auc_judd,
    cc,
    information_gain,
    kl_div,
    mean_scores,
    nss,
    score,
    shuffled_auc,
    sim,
)

# Sums of some hundred float64 values in another order.
ORDER_OF_SUMS = 1e-12
# As above; pysaliency's KL takes the exponential of a logarithm, and its information gain is without ε = 2e-16, which
# changes the logarithm of the smallest probability here, 3e-6, by 1e-10.
PYSALIENCY = 1e-9

# The page's example, worked by hand: mean 1, variance 14/9; two fixations on the 4, one on the 1 right of it.
MAP = np.array([[1, 0, 0], [0, 4, 1], [0, 2, 1]])
FIXATIONS = [(1, 1), (1, 1), (2, 1)]
DENSITY = np.array([[0, 0, 0], [0, 2, 1], [0, 0, 0]]) / 3
CONSTANT, ZERO = np.full((3, 3), 0.1), np.zeros((3, 3))  # 0.1: its mean over nine pixels is not 0.1


def close(value, tolerance=ORDER_OF_SUMS):
    return pytest.approx(value, rel=tolerance, abs=tolerance)


def random_case(seed, height=9, width=13, fixations=12, levels=None):
    rng = np.random.default_rng(seed)
    saliency_map = rng.random((height, width)) if levels is None else rng.integers(0, levels, (height, width)) / levels
    return saliency_map, np.stack([rng.integers(0, width, fixations), rng.integers(0, height, fixations)], axis=1)


# By hand.


def test_cc_by_hand():
    assert cc(MAP, DENSITY) == close(3 / math.sqrt(14))


def test_nss_by_hand():
    assert nss(MAP, FIXATIONS) == close(6 / math.sqrt(14))


def test_sim_by_hand():
    assert sim(MAP, DENSITY) == close(5 / 9)


def test_kl_by_hand():
    assert kl_div(MAP, DENSITY) == close(2 / 3 * math.log(3 / 2) + 1 / 3 * math.log(3))


def test_auc_judd_by_hand():
    assert auc_judd(MAP, FIXATIONS) == close(19 / 21)


def test_auc_judd_with_thresholds_at_fixations_by_hand():
    assert auc_judd(MAP, FIXATIONS, thresholds="fixations") == close(13 / 14)


def test_shuffled_auc_by_hand():
    assert shuffled_auc(MAP, FIXATIONS, [(0, 0), (1, 2)]) == close(3 / 4)


def test_information_gain_by_hand():
    assert information_gain(MAP, FIXATIONS, np.ones((3, 3))) == close(4 / 3)


def test_x_is_the_column_and_y_the_row():
    one = np.zeros((3, 5))
    one[1, 4] = 1
    assert auc_judd(one, [(4, 1)]) == 1
    assert fixation_density([(4, 1)], 3, 5, 0.5).argmax() == one.argmax()


def test_a_pixel_fixated_twice_counts_twice():
    assert nss(MAP, FIXATIONS) == close((2 * nss(MAP, [(1, 1)]) + nss(MAP, [(2, 1)])) / 3)


# Degenerate maps.


def test_cc_constant_map_is_zero():
    assert cc(CONSTANT, DENSITY) == 0
    assert cc(ZERO, DENSITY) == 0


def test_cc_constant_density_is_zero():
    assert cc(MAP, CONSTANT) == 0


def test_nss_constant_map_is_zero():
    assert nss(CONSTANT, FIXATIONS) == 0
    assert nss(ZERO, FIXATIONS) == 0


def test_auc_constant_map_is_one_half():
    assert auc_judd(CONSTANT, FIXATIONS) == 0.5
    assert auc_judd(CONSTANT, FIXATIONS, thresholds="fixations") == 0.5
    assert shuffled_auc(CONSTANT, FIXATIONS, [(0, 0)]) == 0.5


def test_zero_map_is_the_uniform_distribution():
    uniform = np.ones((3, 3))
    assert sim(ZERO, DENSITY) == sim(uniform, DENSITY) == close(2 / 9)
    assert kl_div(ZERO, DENSITY) == kl_div(uniform, DENSITY)
    assert information_gain(ZERO, FIXATIONS, uniform) == 0


def test_zero_density_is_nan():
    assert all(math.isnan(metric(MAP, ZERO)) for metric in (cc, sim, kl_div))


def test_no_fixations_is_nan():
    for none in ([], np.empty((0, 2)), [(-1, 0), (3, 0), (math.nan, 0), (math.inf, 0)]):
        assert math.isnan(nss(MAP, none))
        assert math.isnan(auc_judd(MAP, none))
        assert math.isnan(auc_judd(MAP, none, thresholds="fixations"))
        assert math.isnan(shuffled_auc(MAP, none, FIXATIONS))
        assert math.isnan(shuffled_auc(MAP, FIXATIONS, none))
        assert math.isnan(information_gain(MAP, none, CONSTANT))


def test_auc_with_every_pixel_fixated_is_nan():
    everywhere = [(x, y) for x in range(3) for y in range(3)]
    assert math.isnan(auc_judd(MAP, everywhere))


def test_kl_of_a_prediction_that_excludes_the_fixations_is_finite():
    assert kl_div([[1.0, 0.0]], [[0.0, 1.0]]) == close(-math.log(metrics.EPSILON))


def test_information_gain_where_the_prediction_is_zero_is_finite():
    assert information_gain([[1.0, 0.0]], [(1, 0)], [[1.0, 1.0]]) == close(math.log2(metrics.EPSILON) + 1)


def test_maps_of_extreme_scale_neither_overflow_nor_vanish():
    for scale in (1e-300, 1e300, 5e-324):
        assert nss(MAP * scale, FIXATIONS) == close(nss(MAP, FIXATIONS))
        assert cc(MAP * scale, DENSITY) == close(cc(MAP, DENSITY))
        assert kl_div(MAP * scale, DENSITY) == close(kl_div(MAP, DENSITY))


def test_half_precision_maps_are_computed_in_double():
    half = np.full((300, 300), 0.25, np.float16)  # the sum of 22500 overflows no half, but its steps there are 16
    half[0, 0] = 0.5
    assert nss(half, [(0, 0)]) == nss(half.astype(np.float64), [(0, 0)])


@pytest.mark.parametrize(
    "call",
    [
        lambda: cc(MAP, np.ones((2, 3))),
        lambda: sim(np.ones(3), np.ones(3)),
        lambda: nss(np.ones((1, 3, 3)), FIXATIONS),
        lambda: nss(np.empty((0, 3)), FIXATIONS),
        lambda: nss(MAP, [1, 2]),
        lambda: nss(MAP, [(1, 2, 3)]),
        lambda: nss(np.where(MAP == 4, np.nan, MAP), FIXATIONS),
        lambda: auc_judd(np.where(MAP == 4, np.inf, MAP), FIXATIONS),
        lambda: auc_judd(MAP, FIXATIONS, thresholds="some"),
        lambda: kl_div(MAP, np.where(MAP == 4, np.nan, MAP)),
        lambda: sim(MAP - 1, DENSITY),
        lambda: information_gain(MAP, FIXATIONS, -DENSITY),
        lambda: fixation_density(FIXATIONS, 0, 3, 1.0),
        lambda: fixation_density(FIXATIONS, 3, 3, 0.4),
        lambda: fixation_density(FIXATIONS, 3, 3, math.nan),
    ],
)
def test_wrong_input_is_a_usage_error(call):
    with pytest.raises(UsageError):
        call()


# Definitions and properties.


@pytest.mark.parametrize("levels", [None, 2, 5])
def test_auc_is_the_share_of_pairs(levels):
    for seed in range(5):
        saliency_map, fixations = random_case(seed, levels=levels)
        fixated = {tuple(point) for point in fixations.tolist()}
        negatives = [v for (y, x), v in np.ndenumerate(saliency_map) if (x, y) not in fixated]
        shares = [
            (saliency_map[y, x] > negative) + 0.5 * (saliency_map[y, x] == negative)
            for x, y in fixations
            for negative in negatives
        ]
        assert auc_judd(saliency_map, fixations) == close(np.mean(shares))


@pytest.mark.parametrize("levels", [None, 2, 5])
def test_shuffled_auc_is_the_share_of_pairs(levels):
    saliency_map, fixations = random_case(0, levels=levels)
    _, others = random_case(1, fixations=30)
    shares = [
        (saliency_map[y, x] > saliency_map[v, u]) + 0.5 * (saliency_map[y, x] == saliency_map[v, u])
        for x, y in fixations
        for u, v in others
    ]
    assert shuffled_auc(saliency_map, fixations, others) == close(np.mean(shares))


def test_thresholds_at_fixations_add_half_a_step_of_the_last_false_positive_rate():
    """The page's account of the two areas: with n fixations of different values and no ties, rate / (2 n)."""
    saliency_map, _ = random_case(2)
    fixations = [(0, 0), (3, 1), (7, 8), (12, 4)]
    values = [saliency_map[y, x] for x, y in fixations]
    rate = (np.sum(saliency_map >= min(values)) - len(values)) / (saliency_map.size - len(values))
    exact = auc_judd(saliency_map, fixations)
    assert auc_judd(saliency_map, fixations, thresholds="fixations") - exact == close(rate / (2 * len(values)))


@pytest.mark.parametrize("seed", range(3))
def test_cc_is_numpys_correlation(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 9, 13))
    assert cc(a, b) == close(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_sim_is_one_minus_half_the_distance(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(60), 2).reshape(2, 6, 10)
    assert sim(3 * p, 7 * q) == close(1 - np.abs(p - q).sum() / 2)


def test_sim_of_disjoint_maps_is_zero():
    assert sim([[1.0, 0.0]], [[0.0, 2.0]]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_kl_is_entropys_difference(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.full(60, 5.0), 2).reshape(2, 6, 10)
    # The smallest of these probabilities is above 1e-4, so that ε = 2e-16 changes no logarithm by more than 2e-12.
    assert kl_div(3 * p, 7 * q) == close(np.sum(q * np.log(q)) - np.sum(q * np.log(p)), 1e-11)


def test_a_perfect_prediction():
    density = fixation_density([(3, 2), (7.5, 4.2)], 9, 13, 1.5)
    assert cc(density, density) == close(1)
    assert sim(density, density) == close(1)
    # ε = 2e-16 is added beside the ratio of each pixel, whose smallest values it outweighs: at most ε times 117 pixels.
    assert kl_div(density, density) == pytest.approx(0, abs=117 * metrics.EPSILON * 2)


def test_information_gain_is_the_difference_of_two():
    a, b = np.random.default_rng(0).random((2, 9, 13)) + 0.1
    _, fixations = random_case(0)
    uniform = np.ones((9, 13))
    gained = information_gain(a, fixations, uniform) - information_gain(b, fixations, uniform)
    assert information_gain(a, fixations, b) == close(gained)


@given(seed=st.integers(0, 99), gain=st.floats(0.01, 100), offset=st.floats(-10, 10))
@settings(deadline=None)
def test_nss_and_cc_do_not_depend_on_gain_and_offset(seed, gain, offset):
    saliency_map, fixations = random_case(seed)
    density = fixation_density(fixations, *saliency_map.shape, 1.5)
    moved = gain * saliency_map + offset
    # An offset a thousand times the gain costs three of float64's sixteen digits.
    assert nss(moved, fixations) == close(nss(saliency_map, fixations), 1e-10)
    assert cc(moved, density) == close(cc(saliency_map, density), 1e-10)


@given(
    seed=st.integers(0, 99),
    levels=st.integers(1, 20),
    function=st.sampled_from([np.exp, np.arctan, np.cbrt, lambda v: v**3 - 5, lambda v: -1 / (v + 1)]),
)
@settings(deadline=None)
def test_auc_does_not_depend_on_a_monotone_change(seed, levels, function):
    saliency_map, fixations = random_case(seed, levels=levels)
    changed = function(np.arange(levels) / levels)[np.rint(saliency_map * levels).astype(int)]
    assert auc_judd(changed, fixations) == auc_judd(saliency_map, fixations)
    assert auc_judd(-changed, fixations) == close(1 - auc_judd(saliency_map, fixations))


@given(
    x=st.floats(-3, 8) | st.just(np.nextafter(0.5, 0)),
    y=st.floats(-3, 6) | st.just(np.nextafter(-0.5, 0)),
    height=st.integers(1, 4),
    width=st.integers(1, 6),
)
@settings(deadline=None)
def test_a_fixation_lies_in_the_nearest_pixel_or_outside(x, y, height, width):
    value = information_gain(1 + np.arange(height * width).reshape(height, width), [(x, y)], np.ones((height, width)))
    if math.isnan(value):
        assert not (-0.5 < x < width - 0.5 - 1e-15 and -0.5 < y < height - 0.5 - 1e-15)
    else:
        index = 2**value * (height * width + 1) / 2 - 1  # of the pixel, from its value and the map's mean
        row, column = divmod(round(index), width)
        assert abs(x - column) <= 0.5
        assert abs(y - row) <= 0.5


# The density.


def test_density_is_the_sum_of_gaussians_at_exact_positions():
    fixations, sigma = [(3.25, 2.0), (7.9, 4.5), (-0.4, 0.1), (7.9, 4.5)], 1.7
    expected = np.zeros((9, 13))
    for (y, x), _ in np.ndenumerate(expected):
        for fx, fy in fixations:
            expected[y, x] += math.exp(-((x - fx) ** 2 + (y - fy) ** 2) / (2 * sigma**2))
    expected /= expected.sum()
    density = fixation_density(fixations, 9, 13, sigma)
    assert density.dtype == np.float64
    np.testing.assert_allclose(density, expected, rtol=ORDER_OF_SUMS)


def test_density_sums_to_one_and_keeps_the_fixations_mean_and_spread():
    density = fixation_density([(20.3, 15.6)], 33, 41, 2.5)
    rows, columns = np.indices(density.shape)
    assert density.sum() == close(1)
    # The frame ends six deviations away, where a Gaussian has lost 2e-9 of its mass.
    assert (density * columns).sum() == pytest.approx(20.3, abs=1e-6)
    assert (density * rows).sum() == pytest.approx(15.6, abs=1e-6)
    assert (density * (columns - 20.3) ** 2).sum() == pytest.approx(2.5**2, rel=1e-6)


def test_density_drops_fixations_outside_the_frame():
    inside = [(3, 2)]
    outside = [(-0.6, 2), (13, 2), (3, 9), (3, -7), (math.nan, 2)]
    np.testing.assert_array_equal(
        fixation_density([*inside, *outside], 9, 13, 1.5), fixation_density(inside, 9, 13, 1.5)
    )


@pytest.mark.parametrize("fixations", [[], [(-5, 0)]])
def test_density_of_no_fixations_is_zero(fixations):
    np.testing.assert_array_equal(fixation_density(fixations, 4, 5, 1.5), np.zeros((4, 5)))


# Scores.


def test_score_is_each_metric():
    scores = score(MAP, FIXATIONS, DENSITY, other_fixations=[(0, 0)], baseline_density=CONSTANT)
    assert scores == Scores(
        cc=cc(MAP, DENSITY),
        nss=nss(MAP, FIXATIONS),
        sim=sim(MAP, DENSITY),
        kl=kl_div(MAP, DENSITY),
        auc_judd=auc_judd(MAP, FIXATIONS),
        shuffled_auc=shuffled_auc(MAP, FIXATIONS, [(0, 0)]),
        information_gain=information_gain(MAP, FIXATIONS, CONSTANT),
    )


def test_scores_that_need_more_than_fixations_are_none_without_it():
    scores = score(MAP, FIXATIONS, DENSITY)
    assert scores.shuffled_auc is None
    assert scores.information_gain is None


def test_mean_scores_skips_frames_without_fixations():
    seen, other = score(MAP, FIXATIONS, DENSITY), score(MAP.T, FIXATIONS, DENSITY)
    unseen = score(MAP, [], ZERO)
    means = mean_scores([seen, unseen, other])
    for field in ("cc", "nss", "sim", "kl", "auc_judd"):
        assert math.isnan(getattr(unseen, field))
        assert getattr(means, field) == close((getattr(seen, field) + getattr(other, field)) / 2)
    assert means.information_gain is None


def test_mean_scores_of_an_optional_metric_is_over_the_maps_that_have_it():
    with_gain = score(MAP, FIXATIONS, DENSITY, baseline_density=CONSTANT)
    assert mean_scores([with_gain, score(MAP, FIXATIONS, DENSITY)]).information_gain == with_gain.information_gain


def test_mean_scores_of_nothing_is_nan():
    for scores in ([], [score(MAP, [], ZERO, baseline_density=CONSTANT)]):
        means = dataclasses.asdict(mean_scores(scores))
        assert all(value is None or math.isnan(value) for value in means.values())
        assert math.isnan(means["cc"])


# pysaliency 0.2.22, by golden_pysaliency.py.

GOLDEN = {
    "distinct": {
        "cc": 0.012071007874973361,
        "nss": -0.08643682862942208,
        "sim": 0.5022809014965891,
        "kl": 0.900832963047103,
        "auc_judd": 0.47575643676000756,
        "auc_judd_thresholds_at_fixations": 0.5083630896448036,
        "shuffled_auc": 0.5397923875432525,
        "information_gain": -1.5904359651167517,
    },
    "tied": {
        "cc": 0.004876708563002053,
        "nss": 0.08318903308077008,
        "sim": 0.5133679412663538,
        "kl": 0.7802700996858437,
        "auc_judd": 0.5235388084946438,
        "auc_judd_thresholds_at_fixations": 0.5235388084946438,
        "shuffled_auc": 0.6418685121107266,
        "information_gain": -0.8352169221366611,
    },
    "peaked": {
        "cc": 0.2883363019730375,
        "nss": 1.7967022660936807,
        "sim": 0.41360859902466235,
        "kl": 1.471106567332603,
        "auc_judd": 0.9485529035895508,
        "auc_judd_thresholds_at_fixations": 0.9519357263672242,
        "shuffled_auc": 0.9567474048442907,
        "information_gain": 1.2013385371122014,
    },
    "holes": {
        "cc": 0.28548932087285855,
        "nss": 1.8148328542267436,
        "sim": 0.33396373748313934,
        "kl": 19.058123721627815,
        "auc_judd": 0.9485529035895508,
        "auc_judd_thresholds_at_fixations": 0.9519357263672242,
        "shuffled_auc": 0.9567474048442907,
    },
}
GOLDEN_CASES = runpy.run_path(str(Path(__file__).with_name("golden_pysaliency.py")))["cases"]()


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_are_pysaliencys(name, monkeypatch):
    monkeypatch.setattr(metrics, "EPSILON", 2.2204e-16)  # pysaliency's, rounded
    saliency_map, fixations, density, others, baseline = GOLDEN_CASES[name]
    scores = score(saliency_map, fixations, density, other_fixations=others, baseline_density=baseline)
    # Its rounding of ε shows where a prediction is 0.
    scores = dataclasses.replace(scores, kl=kl_div(saliency_map, density, epsilon=2.2204e-16))
    at_fixations = auc_judd(saliency_map, fixations, thresholds="fixations")
    ours = dataclasses.asdict(scores) | {"auc_judd_thresholds_at_fixations": at_fixations}
    for metric, value in GOLDEN[name].items():
        assert ours[metric] == pytest.approx(value, rel=PYSALIENCY, abs=PYSALIENCY), metric


def test_the_page_runs():
    """Its figures are asserted in it."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(code, {})
