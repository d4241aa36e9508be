"""Intervals by hand, by property, and by how often they cover what they are to cover."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.benchmarks.measure.intervals import (
    difference_p_value,
    median_coverage,
    median_interval,
    median_ratio,
    ratio_interval,
)

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)


def test_the_ranks_of_the_textbooks():
    # Conover, Practical Nonparametric Statistics: 95 % intervals of a median are x(1)..x(6) of 6, x(2)..x(9) of 10,
    # x(6)..x(15) of 20, x(40)..x(61) of 100.
    for number, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15), (100, 40, 61)):
        assert median_interval(list(range(1, number + 1))) == (low, high)


def test_coverage_by_hand():
    assert median_coverage(1) == 0
    assert median_coverage(5) == 1 - 2 / 32  # the range: 93.75 %, all that five runs can give
    assert median_coverage(6) == 1 - 2 / 64
    assert median_coverage(10) == 1 - 2 * (1 + 10) / 1024


def test_the_range_is_given_where_runs_are_too_few():
    assert median_interval([3.0, 1.0, 2.0]) == (1, 3)
    assert median_interval([4.0]) == (4, 4)


@given(TIMES, st.floats(0.5, 0.99))
def test_the_interval_holds_the_median_and_grows_with_the_confidence(seconds, confidence):
    low, high = median_interval(seconds, confidence)
    assert low <= statistics.median(seconds) <= high
    wider = median_interval(seconds, 0.995)
    assert wider[0] <= low
    assert high <= wider[1]
    assert {low, high} <= set(seconds)


@given(TIMES, st.permutations(range(40)))
def test_the_order_of_runs_does_not_matter(seconds, order):
    shuffled = [seconds[place] for place in order if place < len(seconds)]
    assert median_interval(shuffled) == median_interval(seconds)


def test_the_interval_of_a_median_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.lognormal(sigma=0.5, size=(4000, 12))  # whose median is 1
    covered = statistics.mean(low <= 1 <= high for low, high in map(median_interval, samples.tolist()))
    # The standard error of a share of 4000 is 0.3 %.
    assert covered == pytest.approx(median_coverage(12), abs=0.015)
    assert median_coverage(12) > 0.95


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_of_a_ratio_covers_about_as_often_as_it_says(paired):
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        drift = generator.lognormal(sigma=0.3, size=25) if paired else np.ones(25)
        a, b = (level * drift * generator.lognormal(sigma=0.2, size=25) for level in (2.0, 1.0))
        low, high = ratio_interval(a.tolist(), b.tolist(), paired=paired, resamples=400)
        covered.append(low <= 2 <= high)
    assert 0.91 <= statistics.mean(covered) <= 0.995


def test_pairing_cancels_what_slows_whole_rounds():
    generator = np.random.default_rng(2)
    drift = generator.lognormal(sigma=0.5, size=30)
    a, b = (level * drift * generator.lognormal(sigma=0.01, size=30) for level in (3.0, 1.0))
    widths = [
        high - low for low, high in (ratio_interval(a.tolist(), b.tolist(), paired=paired) for paired in (True, False))
    ]
    assert widths[0] < 0.2 * widths[1]


def test_ratios_by_hand():
    assert median_ratio([2.0, 4.0, 100.0], [1.0, 2.0]) == pytest.approx(4 / 1.5)
    assert ratio_interval([6.0, 6.0, 6.0], [2.0, 2.0]) == (3, 3)
    a, b = np.random.default_rng(3).lognormal(size=(2, 30)).tolist()
    assert ratio_interval(a, b) == ratio_interval(a, b)
    assert ratio_interval(a, b) != ratio_interval(a, b, seed=1)
    low, high = ratio_interval(a, b)
    assert low < median_ratio(a, b) < high


def test_the_rank_test_by_counting_all_orders():
    a, b = [1.0, 2.0, 4.5], [3.0, 5.0, 6.0, 7.0]

    def above(first, second):
        return sum(x > y for x, y in itertools.product(first, second))

    joined = a + b
    splits = list(itertools.combinations(range(7), 3))
    counts = [above([joined[i] for i in split], [joined[i] for i in range(7) if i not in split]) for split in splits]
    middle = len(a) * len(b) / 2
    extreme = sum(abs(count - middle) >= abs(above(a, b) - middle) for count in counts)
    assert difference_p_value(a, b) == pytest.approx(extreme / len(splits))


def test_one_run_of_each_tells_no_difference():
    assert difference_p_value([1.0], [2.0, 3.0]) is None
    assert difference_p_value([1.0] * 5, [1.0] * 5) == pytest.approx(1)
