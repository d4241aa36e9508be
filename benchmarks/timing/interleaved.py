"""Forms opened together and run in rounds, so that what slows the machine meanwhile slows them all.

Each round has an order of its own. Threads of the form that ran last may still wait for work and slow the next one:
on a busy machine of two cores, the same OpenVINO engine under two names, one of them always right after ONNX Runtime,
came out up to 1.6 times as slow there, with p < 0.05 in five of six trials; in shuffled rounds, in none of four.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dtfsal.benchmarks.timing.form_process import FormProcess
from dtfsal.benchmarks.timing.forms import AnyForm, BundleForm, Prepared, Workload
from dtfsal.engines.errors import DtfsalError

_FOLDER = re.compile(r"(?<![\w.])/(?:[^\s/:'\"]+/)+")
Progress = Callable[[int], None]  # told of steps done


@dataclasses.dataclass(frozen=True)
class Job:
    """A form and what it is to run, by a name that is the only one of its kind."""

    name: str
    form: AnyForm
    workload: Workload


@dataclasses.dataclass(frozen=True)
class Opened:
    """A job whose form has been loaded, run for the first time and warmed up.

    Attributes:
        job: what it is.
        prepared: its files.
        process: that runs it.
        warm_up_seconds: of each run until it was steady, the first not among them.
    """

    job: Job
    prepared: Prepared
    process: FormProcess
    warm_up_seconds: tuple[float, ...]


def open_jobs(
    stack: contextlib.ExitStack, jobs: Sequence[Job], *, steps: int, progress: Progress
) -> tuple[list[Opened], dict[str, str]]:
    """Open jobs one after the other, alone on the machine, and leave out those that cannot run here.

    Args:
        stack: closes them.
        jobs: what to open.
        steps: that a job has before it, which are done at once if it is left out.
        progress: told of a step for each job, and of the steps of those left out.

    Returns:
        The opened ones, and why the others were left out, by name, without folders of this machine.

    Raises:
        DtfsalError: an engine that the user named cannot be used.
    """
    opened: list[Opened] = []
    left_out: dict[str, str] = {}
    for job in jobs:
        reason = job.form.lacks()
        if reason is None:
            try:
                prepared = job.form.prepare(job.workload)
                process = stack.enter_context(job.form.open(prepared, job.workload.folder))
                opened.append(Opened(job, prepared, process, tuple(process.warm_up())))
                progress(1)
                continue
            except DtfsalError as error:
                if isinstance(job.form, BundleForm):
                    raise
                reason = str(error)
        left_out[job.name] = without_folders(reason)
        progress(1 + steps)
    return opened, left_out


def take_turns(runs: Mapping[str, Callable[[], float]], *, rounds: int, progress: Progress) -> dict[str, list[float]]:
    """The seconds that calls say they took, by name: each is called once in every round, in an order drawn for it.

    The orders are the same for the same number of calls, so that a measurement can be made again.
    """
    seconds = {name: list[float]() for name in runs}
    names, generator = list(runs), np.random.default_rng(0)
    for _ in range(rounds):
        for place in generator.permutation(len(names)):
            name = names[place]
            seconds[name].append(runs[name]())
            progress(1)
    return seconds


def without_folders(text: str) -> str:
    """A text whose absolute paths are cut to the names of their files."""
    return _FOLDER.sub("", text)


def cold_start(opened: Opened) -> dict[str, Any]:
    """How an opened job started and what its process has held, as JSON values without folders of this machine."""
    facts = dataclasses.asdict(opened.process.cold_start)
    backend = json.loads(without_folders(json.dumps(facts["backend"])))
    return {**facts, "backend": backend, "peak_memory_bytes": opened.process.peak_memory_bytes()}
