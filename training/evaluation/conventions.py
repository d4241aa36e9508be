"""The ways to compute a score that the field knows, by name: numbers compare only within one.

`exact` is `dtfsal.training.evaluation.metrics` as it stands. The others repeat what other code computes, so that a
score can stand beside numbers made with that code. docs/reference/metrics.md states each definition, its source, and
what it changes.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.training.evaluation import metrics
from dtfsal.training.evaluation.metrics import Scores

_Array = npt.NDArray[np.float64]
_Pixels = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # columns and rows, one for each fixation
_Five = tuple[float, float, float, float, float]  # CC, NSS, SIM, KL, AUC-Judd

PYSALIENCY_EPSILON = 2.2204e-16  # float64's, as the MIT/Tübingen benchmark rounds it
CHALLENGE_EPSILON = 1e-7
SINGLE_EPSILON = float(np.finfo(np.float32).eps)
LEVELS = 65535  # CrowdSAL's script compares maps as 16-bit numbers


@dataclasses.dataclass(frozen=True)
class Convention:
    """A way to compute scores.

    Attributes:
        smooth: whether a map is brought to the ground truth's size bicubically, and not bilinearly.
        compute: of a map (H, W), its fixations' pixels and a density (H, W): CC, NSS, SIM, KL and AUC-Judd.
    """

    smooth: bool
    compute: Callable[[_Array, _Pixels, _Array], _Five]


def convention_named(name: str) -> Convention:
    """A convention.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CONVENTIONS:
        raise UsageError(f"there is no convention {name!r}; choose one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


def score_by(
    convention: str,
    saliency_map: npt.ArrayLike,
    fixations: npt.ArrayLike,
    density: npt.ArrayLike,
    *,
    other_fixations: npt.ArrayLike | None = None,
    baseline_density: npt.ArrayLike | None = None,
) -> Scores:
    """All metrics of one map under a convention; see `metrics.score` for the arguments.

    Shuffled AUC and information gain are the same under all.

    Raises:
        UsageError: there is no such convention, or an argument can't be.
    """
    compute = convention_named(convention).compute
    values, target = metrics.checked_pair(saliency_map, density)
    cc, nss, sim, kl, auc = compute(values, metrics.fixated_pixels(fixations, values.shape), target)
    shuffled = None if other_fixations is None else metrics.shuffled_auc(values, fixations, other_fixations)
    gain = None if baseline_density is None else metrics.information_gain(values, fixations, baseline_density)
    return Scores(cc, nss, sim, kl, auc, shuffled, gain)


def _exact(values: _Array, pixels: _Pixels, target: _Array) -> _Five:
    points = np.stack(pixels, axis=1)
    return (
        metrics.cc(values, target),
        metrics.nss(values, points),
        metrics.sim(values, target),
        metrics.kl_div(values, target),
        metrics.auc_judd(values, points),
    )


def _pysaliency(values: _Array, pixels: _Pixels, target: _Array) -> _Five:
    cc, nss, sim, _, _ = _exact(values, pixels, target)
    cc = math.nan if _constant(target) else cc
    kl = metrics.kl_div(values, target, epsilon=PYSALIENCY_EPSILON)
    return cc, nss, sim, kl, metrics.auc_judd(values, np.stack(pixels, axis=1), thresholds="fixations")


def _mit(values: _Array, pixels: _Pixels, target: _Array) -> _Five:
    """The MIT benchmark's MATLAB code; NaN is what it divides 0 by 0 for, and what the field's scripts leave out."""
    fixated = np.zeros(values.shape, bool)
    fixated[pixels[1], pixels[0]] = True
    if not target.any():
        return math.nan, _mit_nss(values, fixated), math.nan, math.nan, _mit_auc(values, fixated)
    constant = _constant(values) or _constant(target)
    cc = math.nan if constant else metrics.cc(values, target)
    p, q = _shares(_from_zero(values)), _shares(_from_zero(target))
    sim = float(np.minimum(p, q).sum())
    return cc, _mit_nss(values, fixated), sim, _mit_kl(values, target), _mit_auc(values, fixated)


def _mit_nss(values: _Array, fixated: npt.NDArray[np.bool_]) -> float:
    """The deviation is over N - 1, and a pixel counts once."""
    if not fixated.any() or _constant(values):
        return math.nan
    scaled = values / np.abs(values).max()
    return float(((scaled - scaled.mean()) / scaled.std(ddof=1))[fixated].mean())


def _mit_kl(values: _Array, target: _Array) -> float:
    """A map that is zero everywhere stays so."""
    epsilon = metrics.EPSILON
    p, q = _shares(values), _shares(target)
    return float(np.sum(q * np.log(epsilon + q / (p + epsilon))))


def _mit_auc(values: _Array, fixated: npt.NDArray[np.bool_]) -> float:
    """Without jitter; a constant map, for which the code has jitter alone, gets the jitter's mean of one half."""
    if not fixated.any() or fixated.all():
        return math.nan
    if _constant(values):
        return 0.5
    return _ranked_area(values, values[fixated], int(fixated.sum()))


def _ranked_area(values: _Array, positives: _Array, left_out: int) -> float:
    """The area under a curve that rises by one fixation at a time.

    At the i-th largest fixated value the rate of hits is i / n, and that of false alarms is the number of pixels of at
    least this value, less i, over the pixels but `left_out`. Fixations of one value therefore step back, each a little.
    Counted in whole numbers, and divided once.
    """
    falling = np.sort(positives)[::-1]
    ordered = np.sort(values, axis=None)
    reached = ordered.size - np.searchsorted(ordered, falling, side="left")
    n, others = len(falling), ordered.size - left_out
    hits = np.concatenate(([0], np.arange(1, n + 1), [n]))
    alarms = np.concatenate(([0], reached - np.arange(1, n + 1), [others]))
    twice = np.sum(np.diff(alarms.astype(np.int64)) * (hits[1:] + hits[:-1]))
    return int(twice) / (2 * n * others)


def _challenge(values: _Array, pixels: _Pixels, target: _Array) -> _Five:
    """`bench.py` of the AIM 2024 and NTIRE 2026 challenges: maps from 0 to 1, and small constants in the divisors."""
    s, g = _unit(values), _unit(target)
    cc, nss, sim = _with_constant(s, pixels, g, CHALLENGE_EPSILON)
    auc = math.nan
    if len(pixels[0]) and s.size > 2:
        # The script counts one or two different fixations, whatever there are: its `unique` runs along the other axis.
        columns, rows = pixels
        different = 1 if np.array_equal(columns, rows) else 2
        auc = _ranked_area(s, s[rows, columns], different)
    return cc, nss, sim, metrics.kl_div(s, g, epsilon=PYSALIENCY_EPSILON), auc


def _crowdsal(values: _Array, pixels: _Pixels, target: _Array) -> _Five:
    """`bench.py` of CrowdSAL: as the challenges', with a smaller constant, and AUC-Judd over 16-bit levels."""
    s, g = _unit(values), _unit(target)
    cc, nss, sim = _with_constant(s, pixels, g, SINGLE_EPSILON)
    columns, rows = pixels
    auc = math.nan
    if len(rows):
        levels = np.rint(s * LEVELS)
        free = np.ones(s.shape, bool)
        free[rows, columns] = False
        auc = metrics.area_between_positives(levels[rows, columns], levels[free]) if free.any() else 1.0
    return cc, nss, sim, metrics.kl_div(s, g, epsilon=PYSALIENCY_EPSILON), auc


def _with_constant(s: _Array, pixels: _Pixels, g: _Array, constant: float) -> tuple[float, float, float]:
    """CC, NSS and SIM with a constant added to each divisor."""
    z = (s - s.mean()) / (s.std() + constant)
    y = (g - g.mean()) / (g.std() + constant)
    columns, rows = pixels
    nss = float(z[rows, columns].mean()) if len(rows) else math.nan
    if not g.any():
        return math.nan, nss, math.nan
    cc = float((z * y).sum() / np.sqrt((z * z).sum() * (y * y).sum() + constant))
    return cc, nss, float(np.minimum(s / (s.sum() + constant), g / (g.sum() + constant)).sum())


def _unit(values: _Array) -> _Array:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low + SINGLE_EPSILON), np.float64)


def _from_zero(values: _Array) -> _Array:
    """Less its minimum; NaN if constant, unless it is zero."""
    if _constant(values):
        return np.full_like(values, math.nan) if values.any() else values
    return values - values.min()


def _shares(values: _Array) -> _Array:
    """Divided by the sum; the peak first, so that no sum overflows. Zeros stay zeros."""
    peak = values.max()
    if not peak:
        return values
    scaled = values / peak
    return np.asarray(scaled / scaled.sum(), np.float64)


def _constant(values: _Array) -> bool:
    return bool(values.min() == values.max())


CONVENTIONS: Mapping[str, Convention] = {
    "exact": Convention(smooth=False, compute=_exact),
    "mit": Convention(smooth=True, compute=_mit),
    "pysaliency": Convention(smooth=False, compute=_pysaliency),
    "challenge": Convention(smooth=False, compute=_challenge),
    "crowdsal": Convention(smooth=False, compute=_crowdsal),
}
# What a table beside the paper's needs: the paper's predecessors publish this code's numbers.
PAPERS = "mit"
OURS = "exact"
