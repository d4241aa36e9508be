"""One form of a model in a process of its own, which is told to load, to warm up, to run and to end.

The process is its form's alone: what it imports, holds and starts threads for is the form's, and forms do not meet in
one allocator or thread pool. It is started with a `WorkerSpec` as JSON, answers once when the first run is done, and
then a line for each line that it is sent: `warm-up`, `run` or `memory`. The end of its input ends it.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dtfsal.benchmarks.measure.engine_runs import FloatArray, Inputs, Run, window_run
from dtfsal.engines import open_engine
from dtfsal.runtime.cli.common import peak_memory_bytes

STEADY = 0.03  # two runs in turn that differ by less are steady
WARM_UP_RUNS = 5  # after which, and after WARM_UP_SECONDS, a form that is not steady counts as warm
WARM_UP_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker is to run; paths are files, as text for JSON.

    Attributes:
        imports: modules to import before the clock of loading starts.
        inputs: an npz of the window's arrays by name, of the batch size that is to run.
        maps: where the first run's maps go, as npy.
        threads: CPU threads.
        bundle: an engine's folder; None for PyTorch.
        device: of the engine.
        trust: run native code that the engine brings.
        weights: a weights file for PyTorch.
        written: with the definitions as they are written, instead of the exact rewrites.
        compiled: through `torch.compile`.
    """

    imports: tuple[str, ...]
    inputs: str
    maps: str
    threads: int
    bundle: str | None = None
    device: str = "cpu"
    trust: bool = False
    weights: str | None = None
    written: bool = False
    compiled: bool = False


def seconds_of(run: Callable[[], object]) -> float:
    """How long a call takes that is done with its work when it returns."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def warm_up(run_seconds: Callable[[], float]) -> list[float]:
    """Run until two runs in turn differ by less than `STEADY`, or enough; gives the seconds of each run.

    Args:
        run_seconds: runs once and says how long that took.
    """
    seconds = [run_seconds()]
    while len(seconds) < WARM_UP_RUNS or sum(seconds) < WARM_UP_SECONDS:
        seconds.append(run_seconds())
        if abs(seconds[-1] - seconds[-2]) < STEADY * seconds[-2]:
            break
    return seconds


@contextlib.contextmanager
def opened(spec: WorkerSpec) -> Iterator[tuple[Run, dict[str, Any] | None]]:
    """The form, loaded and ready for its first run, and for an engine what its back end says of itself."""
    if spec.bundle is not None:
        with open_engine(Path(spec.bundle), device=spec.device, threads=spec.threads, trust=spec.trust) as engine:
            yield window_run(engine), engine.describe()["backend"]
        return
    import torch

    from dtfsal.benchmarks.count.plain import plain
    from dtfsal.training.model.weights import load_weights

    assert spec.weights is not None
    torch.set_num_threads(spec.threads)
    model = load_weights(spec.weights)
    chosen = plain(model) if spec.written else model
    network: Any = torch.compile(chosen, dynamic=False) if spec.compiled else chosen

    def run(inputs: Inputs) -> FloatArray:
        with torch.no_grad():
            maps: FloatArray = network(*(torch.from_numpy(inputs[name]) for name in inputs)).numpy()
        return maps

    yield run, None


def work(spec: WorkerSpec, orders: TextIO, answers: TextIO) -> None:
    """Load, run once, and do as told until the orders end."""

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    with np.load(spec.inputs) as arrays:
        inputs = {name: np.ascontiguousarray(arrays[name]) for name in ("video", "audio") if name in arrays}
    started = time.perf_counter()
    for module in spec.imports:
        importlib.import_module(module)
    imported, memory = time.perf_counter(), peak_memory_bytes()
    with opened(spec) as (run, backend):
        loaded = time.perf_counter()
        maps = run(inputs)
        first = time.perf_counter()
        np.save(spec.maps, maps)
        answer(
            import_seconds=imported - started,
            load_seconds=loaded - imported,
            first_seconds=first - loaded,
            memory_before_bytes=memory,
            backend=backend,
        )
        for order in orders:
            if order.strip() == "warm-up":
                answer(seconds=warm_up(lambda: seconds_of(lambda: run(inputs))))
            elif order.strip() == "run":
                answer(seconds=seconds_of(lambda: run(inputs)))
            else:
                assert order.strip() == "memory"
                answer(peak_memory_bytes=peak_memory_bytes())


def main() -> int:
    """Work as the first argument says; what libraries print goes to the standard error."""
    fields = json.loads(sys.argv[1])
    spec = WorkerSpec(**{**fields, "imports": tuple(fields["imports"])})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        work(spec, sys.stdin, answers)
    except Exception as error:  # whatever a library raises is the form's failure, told to who asked for it
        lines = str(error).strip().splitlines() or ["no reason given"]
        answers.write(json.dumps({"error": f"{type(error).__name__}: {lines[0]}"}) + "\n")
        answers.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
