"""A run over many videos: what is left to do, who does it, and what became of each."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import DtfsalError, OutputError, UsageError, printable
from dtfsal.runtime.batch import records
from dtfsal.runtime.batch.pool import ATTEMPTS, Reporter, run_tasks
from dtfsal.runtime.batch.settings import Settings
from dtfsal.runtime.batch.sources import Source
from dtfsal.runtime.media.container import check_readable
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.runtime.predict.prediction import Prediction
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.sinks.outputs import check_outputs

Status = Literal["done", "skipped", "failed"]
FAILED_SOME = 7  # exit code


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        video: the file, as it was found.
        place: of its results, below the output folder.
        status: "done", "skipped" (an earlier run finished it), or "failed".
        outputs: the results, below the output folder; a skipped video's may lie at another place.
        frames: maps.
        seconds: that it took, hashing included.
        error: a sentence; None if it did not fail.
        exit_code: that `dtfsal predict` of this video alone has; 0 if it did not fail.
        attempts: processes that worked at it.
    """

    video: str
    place: str
    status: Status
    outputs: tuple[str, ...] = ()
    frames: int = 0
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0
    attempts: int = 0


@dataclasses.dataclass(frozen=True)
class Opening:
    """How each process opens its predictor; the `Maker` of a pool."""

    settings: Settings
    folder: Path
    device: str
    threads: int
    trust: bool

    def __call__(self) -> VideoWorker:
        """A worker with an open engine."""
        predictor = self.settings.predictor(device=self.device, threads=self.threads, trust=self.trust)
        return VideoWorker(self, predictor)


class VideoWorker:
    """Predicts one video after the other.

    Args:
        opening: the run's options.
        predictor: with them.
    """

    def __init__(self, opening: Opening, predictor: SaliencyPredictor) -> None:
        self._opening = opening
        self._predictor = predictor

    def __call__(self, task: Source, report: Reporter) -> Outcome:
        """Predict a video, write its outputs and then its record. What goes wrong with it is part of the outcome."""
        started = time.perf_counter()
        try:
            outcome = self._predict(task, report)
        except Exception as error:
            outcome = Outcome(str(task.path), str(task.place), "failed", error=told(error), exit_code=code_of(error))
        return dataclasses.replace(outcome, seconds=round(time.perf_counter() - started, 4), attempts=1)

    def _predict(self, task: Source, report: Reporter) -> Outcome:
        folder, settings = self._opening.folder, self._opening.settings
        check_readable(task.path)
        if not task.path.is_file():
            raise UsageError(f"{task.path} is not a file; predict a pipe or a device by itself")
        outputs = settings.outputs(folder, task.place)
        check_outputs(outputs, task.path, overwrite=True)
        before = task.path.stat()
        content = records.content_hash(task.path)

        def on_frame(prediction: Prediction) -> None:
            info = prediction.info
            if info is not None and info.duration_seconds:
                report(min(1.0, prediction.frames * info.frame_interval_seconds / info.duration_seconds))

        prediction = settings.predict(self._predictor, task.path, outputs, on_frame)
        after = task.path.stat()
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise MediaError(f"{task.path} changed while it was read; run again when the file is complete")
        written = records.written(folder, [output.path for output in outputs])
        summary = {"frames": prediction.frames, "sound": prediction.sound, "notes": list(prediction.notes)}
        record = records.Record(str(task.place), content, before.st_size, settings.identity(), written, summary)
        records.save_record(folder, record)
        paths = tuple(output.path for output in written)
        return Outcome(str(task.path), str(task.place), "done", paths, prediction.frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run over many videos.

    Attributes:
        settings: what is done to each.
        folder: where results go.
        workers: processes; None for `default_workers`.
        threads: of each process's engine; None to share the cores among the processes.
        device: as for `SaliencyPredictor`.
        trust: see there.
        resume: whether videos that an earlier run finished are left as they are.
        force: whether results of earlier runs are replaced.
    """

    settings: Settings
    folder: Path
    workers: int | None = None
    threads: int | None = None
    device: str = "auto"
    trust: bool = False
    resume: bool = False
    force: bool = False

    def __call__(
        self, sources: Sequence[Source], on_event: Callable[[str, Source, Any], object] = lambda *_: None
    ) -> list[Outcome]:
        """Predict videos.

        Args:
            sources: the videos.
            on_event: told ("share", source, share), ("again", source, exit code of the process that died) and
                ("outcome", source, outcome).

        Returns:
            What became of each, in the order of the sources.

        Raises:
            UsageError: the output folder holds a run with other settings, or results that would be replaced.
            OutputError: it cannot be written.
            EngineError: the engine cannot be opened, as the errors of `SaliencyPredictor`.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is not a folder; name one for the outputs")
        records.begin(self.folder, self.settings, force=self.force)
        found = {str(source.place): source for source in sources}
        outcomes = self._finished(found) if self.resume else {}
        for place, outcome in outcomes.items():
            on_event("outcome", found[place], outcome)
        tasks = [source for place, source in found.items() if place not in outcomes]
        if not self.force and not self.resume:
            for source in tasks:
                check_outputs(self.settings.outputs(self.folder, source.place), source.path, overwrite=False)
        if tasks:
            workers = min(self.workers or default_workers(self.device), len(tasks))
            threads = self.threads or max(1, default_threads() // workers)
            opening = Opening(self.settings, self.folder, self.device, threads, self.trust)
            again: set[int] = set()
            for kind, number, value in run_tasks(opening, tasks, workers):
                source = tasks[number]
                if kind == "again":
                    again.add(number)
                if kind == "died":
                    value = Outcome(
                        str(source.path),
                        str(source.place),
                        "failed",
                        error=f"{source.path}: {ATTEMPTS} processes ended while they predicted it (the last with exit "
                        f"code {value}); out of memory, or a fault in a decoder: try it alone",
                        exit_code=1,
                    )
                if kind in ("died", "result"):
                    outcome = dataclasses.replace(value, attempts=1 + (number in again))
                    outcomes[str(source.place)] = outcome
                    kind, value = "outcome", outcome
                on_event(kind, source, value)
        return [outcomes[str(source.place)] for source in sources]

    def _finished(self, sources: Mapping[str, Source]) -> dict[str, Outcome]:
        """Videos that an earlier run finished, by place. Only those whose size a record has are read for it."""
        known = records.usable(self.folder, self.settings)
        sizes = {record.size_bytes for record in known}

        def content(source: Source) -> tuple[str, int] | None:
            try:
                size = source.path.stat().st_size
                return (records.content_hash(source.path), size) if size in sizes and source.path.is_file() else None
            except OSError:  # it fails again where it is predicted
                return None

        with ThreadPoolExecutor(default_threads()) as pool:
            hashed = zip(sources, pool.map(content, sources.values()), strict=True)
            contents = {place: one for place, one in hashed if one is not None}
        return {
            place: Outcome(
                str(sources[place].path),
                place,
                "skipped",
                tuple(output.path for output in record.outputs),
                int(record.summary.get("frames", 0)),
            )
            for place, record in records.matched(known, contents).items()
        }


def default_workers(device: str) -> int:
    """Processes of a run: one for each physical core on a CPU, one where a GPU does the work."""
    return 1 if device.startswith("cuda") else default_threads()


def told(error: Exception) -> str:
    """An error as a sentence."""
    if isinstance(error, DtfsalError):
        return str(error)
    if isinstance(error, OSError):
        return printable(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if isinstance(error, MemoryError):
        return "out of memory; use fewer workers"
    return printable(f"{type(error).__name__}: {error} (this is a bug in dtfsal)")


def code_of(error: Exception) -> int:
    """An error's exit code."""
    return error.exit_code if isinstance(error, DtfsalError) else 1


def write_summary(folder: Path, name: str, settings: Settings, outcomes: Sequence[Outcome], seconds: float) -> Path:
    """Write a run's summary as JSON, and as Parquet where pyarrow is installed.

    Args:
        folder: the output folder.
        name: of the files, without suffix.
        settings: of the run.
        outcomes: of all its videos.
        seconds: that it took.

    Returns:
        The JSON file.

    Raises:
        OutputError: one cannot be written.
    """
    path = folder / f"{name}.json"
    rows = [dataclasses.asdict(outcome) for outcome in outcomes]
    document = {"settings": settings.identity(), "seconds": round(seconds, 3), **counts(outcomes), "videos": rows}
    with atomic_output(path) as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return path
    with atomic_output(path.with_suffix(".parquet")) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow)), os.fspath(partial))
    return path


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many videos came to which end, and their maps."""
    found = {status: sum(outcome.status == status for outcome in outcomes) for status in ("done", "skipped", "failed")}
    return found | {"frames": sum(outcome.frames for outcome in outcomes if outcome.status == "done")}


def _schema(pyarrow: Any) -> Any:
    text, whole, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    types = itertools.chain(
        (("video", text), ("place", text), ("status", text), ("outputs", pyarrow.list_(text))),
        (("frames", whole), ("seconds", real), ("error", text), ("exit_code", whole), ("attempts", whole)),
    )
    return pyarrow.schema(list(types))


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if all videos have their results, else `FAILED_SOME`."""
    return FAILED_SOME if any(outcome.status == "failed" for outcome in outcomes) else 0
