"""Saliency metrics of one map: CC, SIM and KL against a density; NSS, AUC and information gain at fixations.

Conventions, with formulas and sources in docs/reference/metrics.md:

- A map is (H, W), finite, of any real dtype; all is computed in float64. SIM, KL and information gain read it as a
  distribution, so there it must not be negative; it is divided by its sum, and one that is zero everywhere is uniform.
- Fixations are (n, 2) positions (x, y) in pixels of the map, the centres of pixels at integers: pixel (column, row)
  holds column - 0.5 <= x < column + 0.5. Those outside the frame or not finite (blinks) are dropped. A pixel fixated
  twice counts twice.
- A score that has nothing to be measured against (no fixation in the frame, a density that is zero everywhere) is NaN,
  and `mean_scores` skips it. A constant map is a legitimate prediction: CC 0, NSS 0, AUC 0.5.
- Nothing is random: ties get half credit instead of jitter, and shuffled AUC uses all other fixations.

Every function raises UsageError for a map or fixations of the wrong shape, or a map with values that it cannot take.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.density import fixation_points, inside_frame

EPSILON = float(np.finfo(np.float64).eps)  # 2.22e-16, as the MIT/Tübingen benchmark regularises KL

_Array = npt.NDArray[np.float64]


def cc(saliency_map: npt.ArrayLike, density: npt.ArrayLike) -> float:
    """Pearson's linear correlation coefficient, in [-1, 1]; 0 if either map is constant, NaN if the density is zero."""
    prediction, target = checked_pair(saliency_map, density)
    if not target.any():
        return math.nan
    return float(np.clip(np.mean(_standardised(prediction) * _standardised(target)), -1, 1))


def sim(saliency_map: npt.ArrayLike, density: npt.ArrayLike) -> float:
    """Similarity, the mass that two distributions share: in [0, 1], 1 if they are equal; NaN if the density is zero."""
    prediction, target = checked_pair(saliency_map, density)
    p, q = _distribution(prediction), _distribution(target)
    return float(np.minimum(p, q).sum()) if target.any() else math.nan


def kl_div(saliency_map: npt.ArrayLike, density: npt.ArrayLike, *, epsilon: float = EPSILON) -> float:
    """KL divergence of prediction p from density q in nats, sum of q log(ε + q / (p + ε)); 0 is best, NaN if q is 0.

    The floor ε is `epsilon`, so a pixel that p calls impossible costs at most 36 nats times its mass q, not infinity.
    """
    prediction, target = checked_pair(saliency_map, density)
    p, q = _distribution(prediction), _distribution(target)
    return float(np.sum(q * np.log(epsilon + q / (p + epsilon)))) if target.any() else math.nan


def nss(saliency_map: npt.ArrayLike, fixations: npt.ArrayLike) -> float:
    """Normalised scanpath saliency: the map, with mean 0 and deviation 1 over its pixels, averaged at the fixations."""
    values = _map(saliency_map)
    columns, rows = fixated_pixels(fixations, values.shape)
    return float(_standardised(values)[rows, columns].mean()) if rows.size else math.nan


def auc_judd(
    saliency_map: npt.ArrayLike, fixations: npt.ArrayLike, *, thresholds: Literal["all", "fixations"] = "all"
) -> float:
    """AUC of telling fixations from the pixels without one: the chance that a fixation's value is the larger.

    Positives are the values at the fixations, negatives those of every pixel without a fixation; a tie counts one half.
    NaN if there is no fixation, or no pixel without one.

    Args:
        saliency_map: the prediction, (H, W).
        fixations: (n, 2) positions (x, y).
        thresholds: "all" is the exact area under the ROC curve; "fixations" draws straight lines between the points of
            the curve at fixations, as the MIT benchmark's code does, and gives up to some hundredths more: for
            comparison with published tables.
    """
    values = _map(saliency_map)
    columns, rows = fixated_pixels(fixations, values.shape)
    free = np.ones(values.shape, dtype=bool)
    free[rows, columns] = False
    area = {"all": _auc, "fixations": area_between_positives}.get(thresholds)
    if area is None:
        raise UsageError(f"thresholds must be 'all' or 'fixations', got {thresholds!r}")
    return area(values[rows, columns], values[free])


def shuffled_auc(saliency_map: npt.ArrayLike, fixations: npt.ArrayLike, other_fixations: npt.ArrayLike) -> float:
    """AUC of telling these fixations from those of other images or frames, which a mere centre bias cannot do.

    As `auc_judd`, but the negatives are the values at all of `other_fixations`, on this map. NaN if either is empty.
    """
    values = _map(saliency_map)
    columns, rows = fixated_pixels(fixations, values.shape)
    other_columns, other_rows = fixated_pixels(other_fixations, values.shape)
    return _auc(values[rows, columns], values[other_rows, other_columns])


def information_gain(saliency_map: npt.ArrayLike, fixations: npt.ArrayLike, baseline_density: npt.ArrayLike) -> float:
    """Information gain in bits per fixation: mean at the fixations of log2(ε + p) - log2(ε + b).

    Args:
        saliency_map: the prediction p, made a distribution.
        fixations: (n, 2) positions (x, y).
        baseline_density: the distribution b that knows less, such as a centre bias; (H, W), made a distribution.
    """
    prediction, baseline = checked_pair(saliency_map, baseline_density)
    p, b = _distribution(prediction), _distribution(baseline)
    columns, rows = fixated_pixels(fixations, p.shape)
    if not rows.size:
        return math.nan
    return float(np.mean(np.log2(EPSILON + p[rows, columns]) - np.log2(EPSILON + b[rows, columns])))


@dataclasses.dataclass(frozen=True)
class Scores:
    """The metrics of one map, or their means over many; NaN is a score without ground truth, None one not asked for."""

    cc: float
    nss: float
    sim: float
    kl: float
    auc_judd: float
    shuffled_auc: float | None = None
    information_gain: float | None = None


def score(
    saliency_map: npt.ArrayLike,
    fixations: npt.ArrayLike,
    density: npt.ArrayLike,
    *,
    other_fixations: npt.ArrayLike | None = None,
    baseline_density: npt.ArrayLike | None = None,
) -> Scores:
    """All metrics of one map.

    Args:
        saliency_map: the prediction, (H, W).
        fixations: (n, 2) positions (x, y) in pixels of the map.
        density: the ground-truth density, (H, W), as of `fixation_density`.
        other_fixations: fixations on other images or frames; needed for shuffled AUC.
        baseline_density: (H, W); needed for information gain.
    """
    return Scores(
        cc=cc(saliency_map, density),
        nss=nss(saliency_map, fixations),
        sim=sim(saliency_map, density),
        kl=kl_div(saliency_map, density),
        auc_judd=auc_judd(saliency_map, fixations),
        shuffled_auc=None if other_fixations is None else shuffled_auc(saliency_map, fixations, other_fixations),
        information_gain=(
            None if baseline_density is None else information_gain(saliency_map, fixations, baseline_density)
        ),
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Each metric's mean over the maps that have it: NaN and None are skipped.

    A metric that is None everywhere stays None; one that is otherwise NaN everywhere is NaN, as are all of no scores.
    """
    means: dict[str, float | None] = {}
    for field in dataclasses.fields(Scores):
        values = [value for value in (getattr(one, field.name) for one in scores) if value is not None]
        measured = [value for value in values if not math.isnan(value)]
        optional = field.default is None
        means[field.name] = None if optional and not values else _mean(measured)
    return Scores(**means)  # type: ignore[arg-type]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _map(values: npt.ArrayLike) -> _Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise UsageError(f"a map must be (H, W) with at least one pixel, got {array.shape}")
    if not np.isfinite(array).all():
        raise UsageError("a map must be finite, got NaN or infinity")
    return array


def checked_pair(saliency_map: npt.ArrayLike, density: npt.ArrayLike) -> tuple[_Array, _Array]:
    """Two maps of one shape, in float64.

    Raises:
        UsageError: they are not maps, not finite, or of two shapes.
    """
    prediction, target = _map(saliency_map), _map(density)
    if prediction.shape != target.shape:
        raise UsageError(f"the two maps must have one shape, got {prediction.shape} and {target.shape}")
    return prediction, target


def _distribution(array: _Array) -> _Array:
    """The map divided by its sum; uniform if it is zero. The peak goes first, so that no sum overflows or vanishes."""
    if array.min() < 0:
        raise UsageError(f"a map that is read as a distribution must not be negative, its minimum is {array.min():g}")
    peak = array.max()
    scaled = array / peak if peak > 0 else np.ones_like(array)
    return scaled / scaled.sum()


def _standardised(array: _Array) -> _Array:
    """Mean 0 and deviation 1; zeros if constant, asked of the values because the mean's rounding hides it."""
    if array.min() == array.max():
        return np.zeros_like(array)
    scaled = array / np.abs(array).max()
    return (scaled - scaled.mean()) / scaled.std()


def fixated_pixels(
    fixations: npt.ArrayLike, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Columns and rows of the pixels that hold the fixations inside the frame."""
    points = fixation_points(fixations)
    columns, rows = np.floor(points[inside_frame(points, shape)] + 0.5).astype(np.intp).T
    return columns, rows


def _auc(positives: _Array, negatives: _Array) -> float:
    """The share of pairs in which the positive is larger, ties one half: O((n + m) log m) for n and m values."""
    if not positives.size or not negatives.size:
        return math.nan
    ordered = np.sort(negatives)
    smaller = np.searchsorted(ordered, positives, side="left")
    not_larger = np.searchsorted(ordered, positives, side="right")
    return float(np.mean(smaller + not_larger) / (2 * len(ordered)))


def area_between_positives(positives: _Array, negatives: _Array) -> float:
    """The area under the ROC curve's points at the positives' values, joined by straight lines."""
    if not positives.size or not negatives.size:
        return math.nan
    levels, counts = np.unique(positives, return_counts=True)
    false_positive_rates = 1 - np.searchsorted(np.sort(negatives), levels, side="left") / negatives.size
    at_next_level = np.append(false_positive_rates[1:], 0.0)
    return float(1 - np.average((false_positive_rates + at_next_level) / 2, weights=counts))
