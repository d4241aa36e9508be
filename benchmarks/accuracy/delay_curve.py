"""How late does the map follow what it should follow? The definition.

Let p_t be the map of frame t divided by its sum, A the mean of p_t long before the event and B long after it, where no
window reaches the event. A map's *share* of the way is

    (m(t) - m(A)) / (m(B) - m(A)),  m(p) = sum of w * p,

where w is 1 on the new target, so that m is the mass on it. After a cut all of the picture is new: w is B - A then, and
the share is the s that makes (1 - s) * A + s * B the nearest to p_t by least squares. A clip says nothing where less
than 2 % of the mass goes over: m(B) - m(A) or, at a cut, 1/2 sum |B - A|, is below 0.02. It is left out, and counted.

A frame stands for the time while it is seen, and its share for the middle of that. So maps that follow each frame
exactly, as maps that see as much before as after it, cross one half at 0 ms, the event; *delay* is where the median of
the clips' curves first does, by linear interpolation, and is positive where the map is late. *Anticipation* is the
share of the way that is gone at the last frame before the event.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from dtfsal.benchmarks.accuracy.delay_clips import EventClip

Maps = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]

LEAST_CONTRAST = 0.02  # of the map's mass: with less going over a clip says nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delay:
    """How late the maps of several clips of a kind are.

    Attributes:
        delay_ms: where the median curve first crosses one half; None where it does not within the curve's range.
        quartiles_ms: of the same of each clip's own curve; one that does not cross counts as the end of the range.
        beyond: how many do not.
        anticipation: the median curve at the last frame before the event.
        items: clips that count.
        left_out: clips that say nothing, for want of contrast.
        curve: the median of the clips' curves, one value for each time; empty without clips that count.
    """

    delay_ms: float | None
    quartiles_ms: tuple[float, float] | None
    beyond: int
    anticipation: float | None
    items: int
    left_out: int
    curve: tuple[float, ...]


def share_curve(maps: Maps, clip: EventClip) -> Curve | None:
    """How far the maps have gone over to the new target around the event.

    Args:
        maps: (N, h, w), not negative, one for each frame of the clip, of any size.
        clip: what they are of.

    Returns:
        (2 * around,) 0 for maps as long before the event and 1 for maps as long after it; None for want of contrast.
    """
    span = clip.span
    assert len(maps) == span.frames
    shares = np.asarray(maps, np.float64).reshape(len(maps), -1)
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    before, after = shares[: span.steady].mean(axis=0), shares[-span.steady :].mean(axis=0)
    if clip.region is None:
        weights = after - before
        contrast = 0.5 * float(np.abs(weights).sum())
    else:
        height, width = maps.shape[1:]
        region = Image.fromarray(clip.region).resize((width, height), Image.Resampling.BOX)
        weights = np.asarray(region, np.float64).ravel()
        contrast = float((after - before) @ weights)
    if not contrast >= LEAST_CONTRAST:
        return None
    low, high = float(before @ weights), float(after @ weights)
    return (shares[span.event - span.around : span.event + span.around] @ weights - low) / (high - low)


def half_crossing(times_ms: Sequence[float], curve: npt.ArrayLike) -> float:
    """The time at which a curve first comes to one half, linear between its points.

    Returns:
        Minus infinity where it begins there or above, infinity where it never comes there.
    """
    values = np.asarray(curve, np.float64)
    reached = values >= 0.5
    if not reached.any():
        return math.inf
    first = int(reached.argmax())
    if first == 0:
        return -math.inf
    below, above = values[first - 1], values[first]
    part = (0.5 - below) / (above - below)
    return float(times_ms[first - 1] + part * (times_ms[first] - times_ms[first - 1]))


def summarise(times_ms: Sequence[float], curves: Sequence[Curve | None]) -> Delay:
    """The delay of several clips of a kind, from their curves; None stands for a clip that says nothing."""
    told = [curve for curve in curves if curve is not None]
    left_out = len(curves) - len(told)
    if not told:
        return Delay(
            delay_ms=None, quartiles_ms=None, beyond=0, anticipation=None, items=0, left_out=left_out, curve=()
        )
    median = np.median(told, axis=0)
    crossing = half_crossing(times_ms, median)
    own = np.array([half_crossing(times_ms, curve) for curve in told])
    low, high = np.quantile(np.clip(own, times_ms[0], times_ms[-1]), [0.25, 0.75])
    return Delay(
        delay_ms=crossing if math.isfinite(crossing) else None,
        quartiles_ms=(float(low), float(high)),
        beyond=int(np.isinf(own).sum()),
        anticipation=float(median[len(median) // 2 - 1]),
        items=len(told),
        left_out=left_out,
        curve=tuple(float(value) for value in median),
    )
