"""How far medians of measured times are to be trusted: intervals of a median and of a ratio, and whether two differ.

Times of runs are skewed and have outliers, so nothing here assumes a normal distribution. All of it takes runs to be
independent, which interleaving approaches and a machine whose clock drifts does not grant.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_LEAST_RUNS_TO_DIFFER = 2  # of each of two; with fewer a rank test says nothing


def median_interval(seconds: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """A confidence interval of the median from order statistics, exact for any continuous distribution.

    It is the narrowest pair of the k-th smallest and k-th largest value that covers the median with at least the
    confidence. Under six values no pair reaches 95 %: then it is their range, and `median_coverage` says what that is
    worth.

    Args:
        seconds: one value or more.
        confidence: in (0, 1).

    Returns:
        The interval's ends; between them lies the sample's median.
    """
    ordered, rank = sorted(seconds), _rank(len(seconds), confidence)
    return ordered[rank - 1], ordered[-rank]


def median_coverage(number: int, confidence: float = CONFIDENCE) -> float:
    """The probability with which `median_interval` of so many values covers the median.

    It is at least `confidence`, except for so few values that the interval is their range.
    """
    return _coverage(number, _rank(number, confidence))


def ratio_interval(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool = False,
    confidence: float = CONFIDENCE,
    resamples: int = 4000,
    seed: int = 0,
) -> tuple[float, float]:
    """A confidence interval of median(a) / median(b) by the percentile bootstrap; the same for the same seed.

    Args:
        a: positive values.
        b: positive values.
        paired: draw rounds, for `a` and `b` of the same length that were measured in turn: what slowed a whole round
            cancels. Otherwise the two are drawn each for itself.
        confidence: in (0, 1). Of few values, say under ten, the bootstrap's intervals are somewhat too narrow.
        resamples: how many samples are drawn.
        seed: of the drawing.
    """
    generator, first, second = np.random.default_rng(seed), np.asarray(a, float), np.asarray(b, float)
    assert not paired or len(first) == len(second)
    of_first = generator.integers(len(first), size=(resamples, len(first)))
    of_second = of_first if paired else generator.integers(len(second), size=(resamples, len(second)))
    ratios: npt.NDArray[np.float64] = np.median(first[of_first], axis=1) / np.median(second[of_second], axis=1)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def median_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """median(a) / median(b)."""
    return statistics.median(a) / statistics.median(b)


def difference_p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The two-sided p-value of Mann and Whitney's test that neither of two samples tends to be larger.

    Returns:
        The p-value, exact for small samples without ties; None where a sample has fewer than two values.
    """
    if min(len(a), len(b)) < _LEAST_RUNS_TO_DIFFER:
        return None
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(a, b, alternative="two-sided").pvalue)


def _rank(number: int, confidence: float) -> int:
    """The largest k for which the k-th smallest and k-th largest value cover the median well enough; at least 1."""
    assert number >= 1
    assert 0 < confidence < 1
    rank = 1
    while 2 * (rank + 1) <= number and _coverage(number, rank + 1) >= confidence:
        rank += 1
    return rank


def _coverage(number: int, rank: int) -> float:
    """How likely fewer than `rank` values lie on neither side of the median: 1 - 2 P(Binomial(n, 1/2) < rank)."""
    outside = sum(math.comb(number, below) for below in range(rank))
    return max(0.0, 1 - 2 * outside / 2**number)
