"""The crop's path as one convex problem: keep attention in the window, move seldom, slowly and softly.

Along one axis, a frame's attention is a distribution m(x), and the window reaches h to each side of its centre c. What
a frame loses is the mean distance of its attention from the window's inner part,

    L(c) = sum over x of m(x) * (max(0, |x - c| - d * h) + |x - c| / 10),

with the dead zone d: attention well inside the window pulls weakly, just enough to centre it. L is convex, so a whole
shot is one convex problem with one best path:

    minimise  sum of dt * L(c)  +  travel * sum of |change of c|  +  bend * sum of |change of speed|
    subject to  low <= c <= high,  |speed| <= V,  |change of speed| <= A * dt

Both prices are absolute values, so the best path stands still, or moves evenly, for as long as it can, as in Grundmann,
Kwatra and Essa, "Auto-directed video stabilization with robust L1 optimal camera paths", CVPR 2011. Unlike a filter it
knows what comes: it leaves before a speaker changes and arrives without overshoot. L enters by its tangents, which
makes the problem a linear programme; HiGHS solves it.

All positions are in window widths (or heights), from the frame's edge; times are in seconds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError

Array = npt.NDArray[np.float64]

TANGENTS = 20  # of a loss, evenly over the centres that a window can take
CENTRED = 0.1  # share of its distance that attention in the dead zone costs
_KEEP_PRICE = 100.0  # of a second with what must be kept one window width outside


@dataclasses.dataclass(frozen=True)
class Motion:
    """How a window may move.

    Attributes:
        speed: the largest, in window widths per second.
        acceleration: the largest, in window widths per second squared.
        dead_zone: share of the window, around its centre, in which attention pulls a tenth as much: 0 to 1.
        travel: what a window width of travel costs, in window widths of loss during a second.
        bend: what a change of speed by one window width per second costs, in the same unit.

    Raises:
        UsageError: a value is out of range.
    """

    speed: float = 0.8
    acceleration: float = 1.6
    dead_zone: float = 0.5
    travel: float = 0.15
    bend: float = 0.08

    def __post_init__(self) -> None:
        for name in ("speed", "acceleration"):
            value = getattr(self, name)
            if not 1e-3 <= value <= 1e3:
                raise UsageError(f"the {name} of the crop must lie between 0.001 and 1000 per second, not {value!r}")
        if not 0 <= self.dead_zone <= 1:
            raise UsageError(f"the dead zone is a share of the window from 0 to 1, not {self.dead_zone!r}")


@dataclasses.dataclass(frozen=True)
class Losses:
    """Convex losses of n frames, each the largest of its lines: slope * c + offset, (n, lines)."""

    slopes: Array
    offsets: Array


def outside_losses(shares: npt.ArrayLike, places: Array, reach: Array, low: Array, high: Array) -> Losses:
    """The mean distance of attention from a window, for each frame, by its tangents.

    Args:
        shares: (n, k) of each frame's attention by place; each frame's sum to 1.
        places: (k,) where it is, increasing.
        reach: (n,) how far a window reaches to each side of its centre before attention counts as outside.
        low: (n,) the least centre that the window can take.
        high: (n,) the greatest.
    """
    weights = np.asarray(shares, np.float64)
    steps = np.linspace(0.0, 1.0, TANGENTS)
    centres = low[:, None] + (high - low)[:, None] * steps  # (n, lines)
    slopes, offsets = np.empty_like(centres), np.empty_like(centres)
    for line in range(TANGENTS):
        away = places[None, :] - centres[:, line, None]  # (n, k)
        beyond = (np.abs(away) > reach[:, None]) + CENTRED
        slope = -(weights * np.sign(away) * beyond).sum(axis=1)
        outside = np.maximum(np.abs(away) - reach[:, None], 0.0)
        loss = (weights * (outside + CENTRED * np.abs(away))).sum(axis=1)
        slopes[:, line], offsets[:, line] = slope, loss - slope * centres[:, line]
    return Losses(slopes, offsets)


def chosen_places(held: Array, centres: Array, durations: Array, travel: float) -> Array:
    """The place to look at in each frame: the most held attention, less the price of the way between places.

    Which of two far places to show is no convex question. Dynamic programming over a few centres answers it: the result
    is the best of all sequences of centres.

    Args:
        held: (n, k) the share of attention in the window around each centre.
        centres: (k,) of the windows, increasing.
        durations: (n,) of the frames.
        travel: price of a window width of way, in held shares during a second.

    Returns:
        (n,) centres.
    """
    gain = held * durations[:, None]
    way = travel * np.abs(centres[:, None] - centres[None, :])
    best, came = gain[0], np.empty(held.shape, np.intp)
    rows = np.arange(len(centres))
    for frame in range(1, len(held)):
        reached = best[None, :] - way
        came[frame] = reached.argmax(axis=1)
        best = reached[rows, came[frame]] + gain[frame]
    place = int(best.argmax())
    chosen = np.empty(len(held), np.intp)
    for frame in range(len(held) - 1, -1, -1):
        chosen[frame] = place
        place = came[frame, place] if frame else place
    return np.asarray(centres[chosen])


def distance_losses(targets: Array) -> Losses:
    """The distance from each frame's target, (n,): two lines each."""
    ones = np.ones_like(targets)
    return Losses(np.stack([ones, -ones], axis=1), np.stack([-targets, targets], axis=1))


def smooth_path(
    times: Array,
    losses: Losses,
    low: Array,
    high: Array,
    motion: Motion,
    *,
    keep: tuple[Array, Array] | None = None,
) -> Array:
    """The best path of a shot.

    Args:
        times: (n,) of the frames, increasing.
        losses: of the n frames.
        low: (n,) the least position; equal to `high` where a frame's position is settled already.
        high: (n,) the greatest.
        motion: what bounds and prices the path.
        keep: (n,) each, the range of positions that keep what must be seen; -inf and inf where nothing must. The path
            leaves it only where its bounds leave no other way.

    Returns:
        (n,) positions.
    """
    return _solved(times, losses, low, high, motion, keep, motion.acceleration)


def _solved(
    times: Array,
    losses: Losses,
    low: Array,
    high: Array,
    motion: Motion,
    keep: tuple[Array, Array] | None,
    acceleration: float,
) -> Array:
    from scipy import sparse
    from scipy.optimize import linprog

    n, lines = losses.slopes.shape
    steps = np.diff(times)
    durations = np.append(steps, steps[-1] if n > 1 else 1.0)
    middles = (steps[1:] + steps[:-1]) / 2
    eye = sparse.eye_array(n, format="csr")
    moves = sparse.csr_array(eye[1:] - eye[:-1])  # (n - 1, n)
    bends = _difference(steps) @ moves if n > 2 else sparse.csr_array((0, n))  # (n - 2, n) changes of speed

    # Variables: positions c, losses e, travel u, bends b, and what is kept too little k.
    sizes = [n, n, max(0, n - 1), max(0, n - 2), n if keep is not None else 0]
    at = np.cumsum([0, *sizes])
    rows: list[list[Any]] = []
    bounds: list[Array] = []

    def below(limit: Array, **parts: Any) -> None:
        """Rows: the sum of the parts is at most the limit."""
        empty = {name: sparse.csr_array((len(limit), size)) for name, size in zip("ceubk", sizes, strict=True)}
        rows.append(list((empty | parts).values()))
        bounds.append(limit)

    slopes = sparse.csr_array(
        (losses.slopes.ravel(), (np.arange(n * lines), np.repeat(np.arange(n), lines))), shape=(n * lines, n)
    )
    below(-losses.offsets.ravel(), c=slopes, e=-sparse.kron(eye, np.ones((lines, 1)), format="csr"))
    for sign in (1.0, -1.0):
        if n > 1:
            below(np.zeros(n - 1), c=sign * moves, u=-sparse.eye_array(n - 1, format="csr"))
        if n > 2:
            below(np.zeros(n - 2), c=sign * bends, b=-sparse.eye_array(n - 2, format="csr"))
    if keep is not None:
        wanted = np.isfinite(keep[0])
        chosen = sparse.csr_array(eye[wanted])
        below(-keep[0][wanted], c=-chosen, k=-chosen)
        below(keep[1][wanted], c=chosen, k=-chosen)

    costs = [np.zeros(n), durations, np.full(sizes[2], motion.travel), np.full(sizes[3], motion.bend)]
    costs.append(_KEEP_PRICE * durations[: sizes[4]])
    lower = np.concatenate([low, np.zeros(at[-1] - n)])
    upper = np.concatenate(
        [high, np.full(n, np.inf), motion.speed * steps, acceleration * middles, np.full(sizes[4], np.inf)]
    )
    upper[at[2] : at[4]] += 1e-7  # settled positions keep their bounds to the solver's tolerance only
    found = linprog(
        np.concatenate(costs),
        A_ub=sparse.block_array(rows, format="csr"),
        b_ub=np.concatenate(bounds),
        bounds=np.stack([lower, upper], axis=1),
        method="highs",
    )
    if found.x is None:
        # Bounds that move (a zoom) can leave no way that is soft enough: be quicker there.
        assert acceleration < 1e6 * motion.acceleration, f"no path exists: {found.message}"
        return _solved(times, losses, low, high, motion, keep, acceleration * 10)
    return np.asarray(np.clip(found.x[:n], low, high))


def _difference(steps: Array) -> Any:
    """Changes of speed from moves: (n - 2, n - 1)."""
    from scipy import sparse

    count = len(steps) - 1
    index = np.arange(count)
    values = np.concatenate([-1 / steps[:-1], 1 / steps[1:]])
    return sparse.csr_array((values, (np.tile(index, 2), np.concatenate([index, index + 1]))), shape=(count, count + 1))
