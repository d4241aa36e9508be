"""Timing of work on a device: CUDA events around each call on a GPU, the clock on a CPU."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

WARM_UP_SECONDS = 0.3  # so long that clocks have risen, and no fewer runs than WARM_UP_RUNS
WARM_UP_RUNS = 3


@dataclasses.dataclass(frozen=True)
class Timing:
    """One form's runs.

    Attributes:
        name: of the form.
        seconds: each run's time, warm-up not among them, in the order they were made.
        first_seconds: the first run's time, warm-up included.
    """

    name: str
    seconds: tuple[float, ...]
    first_seconds: float

    @property
    def median_seconds(self) -> float:
        """The median run."""
        return statistics.median(self.seconds)

    @property
    def quartiles_seconds(self) -> tuple[float, float]:
        """See `quartiles`."""
        return quartiles(self.seconds)


def quartiles(seconds: Sequence[float]) -> tuple[float, float]:
    """First and third quartile, inclusive method; of one run, that run twice."""
    if len(seconds) == 1:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high


class Stopwatch(Protocol):
    """Runs a call to its end and says how long it took, in seconds."""

    def __call__(self, run: Callable[[], object]) -> float:
        """Run and time."""
        ...


class HostStopwatch:
    """The wall clock; the call must be done with its work when it returns."""

    def __call__(self, run: Callable[[], object]) -> float:
        """See `Stopwatch`."""
        started = time.perf_counter()
        run()
        return time.perf_counter() - started


class EventStopwatch:
    """CUDA events on PyTorch's current stream: the GPU's own time, without what the host does before and after."""

    def __call__(self, run: Callable[[], object]) -> float:
        """See `Stopwatch`."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class ColdCacheStopwatch(EventStopwatch):
    """As `EventStopwatch`, the GPU's second-level cache filled with something else before each run.

    Args:
        bytes_to_write: more than any cache holds.
    """

    def __init__(self, bytes_to_write: int = 256 * 2**20) -> None:
        self._rubbish = torch.empty(bytes_to_write, dtype=torch.uint8, device="cuda")

    def __call__(self, run: Callable[[], object]) -> float:
        """See `Stopwatch`."""
        self._rubbish.fill_(1)
        return super().__call__(run)


def stopwatch_for(device: torch.device) -> Stopwatch:
    """Events on a GPU, the clock elsewhere."""
    return EventStopwatch() if device.type == "cuda" else HostStopwatch()


def measure_forms(
    forms: Mapping[str, Callable[[], object]], stopwatch: Stopwatch, *, runs: int
) -> tuple[list[Timing], dict[str, str]]:
    """Time forms in turn (A B C A B C ...) after each has run until it is warm.

    A form that fails in its warm-up, for lack of memory say, is left out and the others go on.

    Returns:
        The timings, in the forms' order; and why those left out failed, by name.
    """
    first: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, run in forms.items():
        try:
            first[name] = stopwatch(run)
            spent, turns = 0.0, 0
            while spent < WARM_UP_SECONDS or turns < WARM_UP_RUNS:
                spent += max(stopwatch(run), 1e-6)
                turns += 1
        except (RuntimeError, ValueError) as error:
            failed[name] = first_line(error)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    seconds = {name: list[float]() for name in forms if name not in failed}
    for _ in range(runs):
        for name, taken in seconds.items():
            taken.append(stopwatch(forms[name]))
    return [Timing(name, tuple(taken), first[name]) for name, taken in seconds.items()], failed


def median_seconds(run: Callable[[], object], stopwatch: Stopwatch, *, runs: int) -> float:
    """The median of some runs of one call after two to warm up."""
    for _ in range(2):
        stopwatch(run)
    return statistics.median(stopwatch(run) for _ in range(runs))


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
