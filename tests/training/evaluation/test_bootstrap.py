"""Intervals of means, against SciPy's bootstrap and what is known of them."""

import math

import numpy as np
import pytest

from dtfsal.training.evaluation.bootstrap import difference_interval, mean_interval


def test_intervals_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).gamma(2, 1, 80)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    # Quantiles of 2000 resamples have an error of about a twentieth of the interval's width.
    assert mean_interval(values.tolist()) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_they_hold_the_mean_as_often_as_they_say():
    """Of 400 samples of a normal distribution 95 % hold its mean; 50 values make the bootstrap a little narrow."""
    rng = np.random.default_rng(0)
    held = [low <= 0 <= high for low, high in (mean_interval(rng.standard_normal(50).tolist()) for _ in range(400))]
    assert 0.91 < np.mean(held) < 0.98


def test_what_is_absent_is_left_out():
    assert mean_interval([math.nan, 2.0, 2.0]) == (2.0, 2.0)
    assert all(math.isnan(end) for end in mean_interval([]))
    mean, low, high = difference_interval({"a": 1.0, "b": math.nan, "c": 5.0}, {"a": 0.5, "b": 1.0})
    assert (mean, low, high) == (0.5, 0.5, 0.5)
    assert all(math.isnan(value) for value in difference_interval({}, {}))
