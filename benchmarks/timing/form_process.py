"""The worker of a form, seen from the process that measures: started, told what to do, and ended."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dtfsal.benchmarks.timing.form_worker import WorkerSpec
from dtfsal.engines.errors import UnavailableError

SETTLE_SECONDS = 0.05  # before a run: the threads of the form that ran last stop waiting for more work


@dataclasses.dataclass(frozen=True)
class ColdStart:
    """A form's way to its first map, in a process that has done nothing before; the files may be in the disk's cache.

    Attributes:
        import_seconds: its libraries.
        load_seconds: from its files to a form that can run.
        first_seconds: the first run, with all that is put off until then: compiling, choosing kernels, memory.
        memory_before_bytes: the most that the process had held before loading; None where the system does not say.
        backend: what the engine's back end says of itself, providers and threads among it; None for PyTorch.
    """

    import_seconds: float
    load_seconds: float
    first_seconds: float
    memory_before_bytes: int | None
    backend: dict[str, Any] | None


class FormProcess:
    """A form in its process; entering waits for its first run, leaving ends it.

    Args:
        spec: what it is to run.
        log: where it writes what its libraries print.
        environment: variables to set in it, beside this process's own.

    Raises:
        UnavailableError: on entering or later, when the form fails; it says why.
    """

    cold_start: ColdStart

    def __init__(self, spec: WorkerSpec, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._spec, self._log, self._environment = spec, log, {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-P",
            "-m",
            "dtfsal.benchmarks.timing.form_worker",
            json.dumps(dataclasses.asdict(self._spec)),
        ]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        try:
            self.cold_start = ColdStart(**self._answer())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # it may be in the midst of a long run
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def warm_up(self) -> list[float]:
        """Run until steady; see `dtfsal.benchmarks.timing.form_worker.warm_up`."""
        seconds: list[float] = self._ask("warm-up")["seconds"]
        return seconds

    def run(self) -> float:
        """The seconds of one run, after a pause in which other forms' threads come to rest."""
        time.sleep(SETTLE_SECONDS)
        return float(self._ask("run")["seconds"])

    def peak_memory_bytes(self) -> int | None:
        """The most that the process has held at once, libraries and all; None where the system does not say."""
        peak: int | None = self._ask("memory")["peak_memory_bytes"]
        return peak

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{order}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the answer says how
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError(f"its process ended with code {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UnavailableError(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"
