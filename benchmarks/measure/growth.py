"""Laws of growth fitted to times: a power of what grows, and Amdahl's law of threads.

A time at a point is the median of its runs; how far the fit is to be trusted comes from fitting again to runs drawn
again from those that were measured. The law's own error is reported separately, as the largest deviation.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.measure.intervals import CONFIDENCE

RESAMPLES = 2000
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """seconds = coefficient * x ** exponent.

    Attributes:
        coefficient: seconds at x = 1.
        exponent: 1 where the time grows as x does, 2 where it grows as its square.
        exponent_interval: how far measured times would let the exponent be.
        largest_deviation: of a point from the law, as a share of the law's value.
    """

    coefficient: float
    exponent: float
    exponent_interval: tuple[float, float]
    largest_deviation: float

    def at(self, x: float) -> float:
        """The law's seconds."""
        return float(self.coefficient * x**self.exponent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmdahlLaw:
    """seconds = one_thread * (serial_share + (1 - serial_share) / threads).

    Attributes:
        one_thread: seconds with one thread.
        serial_share: of the work that threads do not share; 0 where they share it all, below it where they gain more
            than their number (by their caches, say), 1 where they gain nothing, above it where they slow each other.
        serial_share_interval: how far measured times would let the share be.
        largest_deviation: of a point from the law, as a share of the law's value.
    """

    one_thread: float
    serial_share: float
    serial_share_interval: tuple[float, float]
    largest_deviation: float

    def at(self, x: float) -> float:
        """The law's seconds."""
        return self.one_thread * (self.serial_share + (1 - self.serial_share) / x)


def fit_power_law(x: Sequence[float], seconds: Sequence[Sequence[float]], *, seed: int = 0) -> PowerLaw:
    """Least squares of log seconds over log x.

    Args:
        x: two or more different positive values.
        seconds: the runs at each, which may differ in number.
        seed: of the resampling.
    """
    coefficient, exponent = map(float, _power(x, _medians(seconds)))
    interval = _interval(seconds, lambda times: _power(x, times)[1], seed)
    law = PowerLaw(coefficient=coefficient, exponent=exponent, exponent_interval=interval, largest_deviation=0.0)
    return dataclasses.replace(law, largest_deviation=_largest_deviation(law.at, x, seconds))


def fit_amdahl(threads: Sequence[float], seconds: Sequence[Sequence[float]], *, seed: int = 0) -> AmdahlLaw:
    """Least squares of relative deviations from Amdahl's law (1967), which is linear in 1 / threads.

    Args:
        threads: two or more different numbers.
        seconds: the runs with each.
        seed: of the resampling.
    """
    one_thread, share = map(float, _amdahl(threads, _medians(seconds)))
    interval = _interval(seconds, lambda times: _amdahl(threads, times)[1], seed)
    law = AmdahlLaw(one_thread=one_thread, serial_share=share, serial_share_interval=interval, largest_deviation=0.0)
    return dataclasses.replace(law, largest_deviation=_largest_deviation(law.at, threads, seconds))


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent of the power law through positive values, by least squares of their logarithms."""
    return float(_power(x, np.asarray(y, float))[1])


def _power(x: Sequence[float], times: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficient and exponent for times (..., points): arrays of the leading shape."""
    slope, intercept = np.polyfit(np.log(x), np.log(times).T, 1)
    return np.exp(intercept), slope


def _amdahl(threads: Sequence[float], times: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One thread's seconds and the serial share for times (..., points): arrays of the leading shape."""
    # 1 = serial / time + parallel / (threads * time) in the least squares: deviations are relative.
    serial, parallel = 1 / times, 1 / (times * np.asarray(threads, float))
    ss, sp, pp = (serial**2).sum(-1), (serial * parallel).sum(-1), (parallel**2).sum(-1)
    s, p, determinant = serial.sum(-1), parallel.sum(-1), ss * pp - sp**2
    serial, parallel = (s * pp - p * sp) / determinant, (p * ss - s * sp) / determinant
    return serial + parallel, serial / (serial + parallel)


def _medians(seconds: Sequence[Sequence[float]]) -> FloatArray:
    return np.array([statistics.median(runs) for runs in seconds])


def _interval(
    seconds: Sequence[Sequence[float]], parameter: Callable[[FloatArray], FloatArray], seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    drawn = [np.median(generator.choice(runs, (RESAMPLES, len(runs))), axis=1) for runs in seconds]
    low, high = np.quantile(parameter(np.stack(drawn, axis=-1)), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _largest_deviation(law: Callable[[float], float], x: Sequence[float], seconds: Sequence[Sequence[float]]) -> float:
    return max(abs(statistics.median(runs) / law(value) - 1) for value, runs in zip(x, seconds, strict=True))
