"""How sure means over items are: percentile bootstrap (Efron & Tibshirani 1993, chapter 13)."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES, LEVEL = 2000, 0.95

Interval = tuple[float, float]


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The interval that holds the mean of other items like these with a probability of 95 %.

    Args:
        values: (n,) one for each item; NaN counts as absent.
        seed: of the resampling.

    Returns:
        Its ends; NaN where there is no value.
    """
    measured = np.asarray(values, np.float64)
    measured = measured[np.isfinite(measured)]
    if not measured.size:
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(measured.size, size=(RESAMPLES, measured.size))
    low, high = np.quantile(measured[chosen].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference_interval(
    first: Mapping[str, float], second: Mapping[str, float], seed: int = 0
) -> tuple[float, float, float]:
    """The mean difference of two predictors over the items that both have, and its interval.

    Args:
        first: by item.
        second: by item.
        seed: of the resampling.
    """
    items = [item for item in first if item in second]
    differences: npt.NDArray[np.float64] = np.array([first[item] - second[item] for item in items], np.float64)
    measured = differences[np.isfinite(differences)]
    mean = float(measured.mean()) if measured.size else float("nan")
    return (mean, *mean_interval(differences.tolist(), seed))
