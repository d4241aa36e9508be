"""Timing of work on a device: CUDA events around each call on a GPU, the clock on a CPU."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

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


class SettledStopwatch:
    """The wall clock from a GPU at rest to a GPU at rest: what a program waits for, whatever library does the work."""

    def __call__(self, run: Callable[[], object]) -> float:
        """See `Stopwatch`."""
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - started


class ReplayStopwatch:
    """The GPU's time of one launch, without the host's: many launches are captured as a CUDA graph, which is replayed.

    Python takes about as long to launch a kernel as a small kernel to run: events around one launch time Python.
    Before each launch the second-level cache is filled with something else. A second graph holds the fills alone, and
    the launches' time is the difference.

    Args:
        launches: captured in a graph.
        flush: fills the cache on the current stream; None for a write of 256 MiB, more than any cache holds.
        cuda: what stands for `torch.cuda`.
    """

    def __init__(
        self, launches: int = 20, *, flush: Callable[[], object] | None = None, cuda: Any = torch.cuda
    ) -> None:
        self._launches, self._cuda = launches, cuda
        if flush is None:
            rubbish = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")
            flush = functools.partial(rubbish.fill_, 1)
        self._flush = flush

    def seconds(self, run: Callable[[], object], *, runs: int) -> list[float]:
        """A launch's mean seconds in each of some replays.

        Args:
            run: launches on PyTorch's current stream, and can be captured.
            runs: replays.

        Raises:
            RuntimeError: it cannot be captured.
        """

        def cold() -> None:
            self._flush()
            run()

        both, fills = self._captured(cold), self._captured(self._flush)
        for graph in (both, fills):
            self._replayed(graph)
        return [(self._replayed(both) - self._replayed(fills)) / self._launches for _ in range(runs)]

    def _captured(self, work: Callable[[], object]) -> Any:
        cuda = self._cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):  # libraries allocate and choose in their first launches
            for _ in range(2):
                work()
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for _ in range(self._launches):
                work()
        return graph

    def _replayed(self, graph: Any) -> float:
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        self._cuda.synchronize()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def stopwatch_for(device: torch.device) -> Stopwatch:
    """Events on a GPU, the clock elsewhere."""
    return EventStopwatch() if device.type == "cuda" else HostStopwatch()


def settled_stopwatch(device: torch.device) -> Stopwatch:
    """The wall clock, which waits for the GPU if there is one."""
    return SettledStopwatch() if device.type == "cuda" else HostStopwatch()


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
