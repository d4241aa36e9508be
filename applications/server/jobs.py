"""Who may come in, and which engine predicts: one engine for each job at a time, and a bound on all that wait.

All methods but `Control.check` are for the event loop's thread. Work runs in threads: decoding and engines let go of
Python's lock, so the loop stays awake.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dtfsal.applications.server.metrics import Metrics
from dtfsal.applications.server.refusals import Refusal
from dtfsal.engines import Engine

Result = TypeVar("Result")
_FIRST_GUESS_SECONDS = 5.0  # of a job, before one has ended
_LONGEST_RETRY_SECONDS = 300


class Stopped(Exception):  # noqa: N818 - no error: nobody waits for the result any more
    """A job was asked to end."""


class Control:
    """Whether a job shall go on: set by the event loop, checked by the job between frames.

    Attributes:
        started: whether the job has an engine.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self.started = False

    def stop(self) -> None:
        """Ask the job to end."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `Stopped` if the job was asked to end."""
        if self._stopped.is_set():
            raise Stopped


class Jobs:
    """The engines and the places of a server.

    Args:
        engines: one for each job that may run at the same time; they stay open.
        queue: requests beyond those that may be received or wait.
        metrics: what is counted.
    """

    def __init__(self, engines: Sequence[Engine], queue: int, metrics: Metrics) -> None:
        self._engines: asyncio.Queue[Engine] = asyncio.Queue()
        for engine in engines:
            self._engines.put_nowait(engine)
        self._jobs = len(engines)
        self._most = len(engines) + queue
        self._metrics = metrics
        self._taken = 0
        self._mean_seconds = _FIRST_GUESS_SECONDS
        self._pool = ThreadPoolExecutor(len(engines), thread_name_prefix="dtfsal-job")
        self.draining = False

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place for a request, held until its answer has been sent.

        Raises:
            Refusal: 503 where the server is being stopped, 429 where all places are taken.
        """
        if self.draining:
            raise Refusal(
                503, "stopping", "the server is being stopped; ask another one, or this one later", retry_seconds=5
            )
        if self._taken >= self._most:
            raise Refusal(
                429,
                "too-many-requests",
                f"all {self._most} places are taken ({self._jobs} run at a time); try again later",
                retry_seconds=self._retry_seconds(),
            )
        self._taken += 1
        self._metrics.places.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._metrics.places.set(self._taken)

    async def run(self, work: Callable[[Engine, Control], Result], control: Control) -> Result:
        """Run work in a thread with an engine, as soon as one is free.

        The task that awaits this may be cancelled before the work has started, and not later: a thread cannot be, and
        an engine is free only when its thread has let go of it.

        Args:
            work: called in a thread.
            control: handed to it; stop it, and the work ends at its next frame.

        Raises:
            Stopped: it was asked to end.
            Exception: what the work raised.
        """
        arrived = time.monotonic()
        engine = await self._engines.get()
        started = time.monotonic()
        self._metrics.waiting_seconds.observe(started - arrived)
        self._metrics.running.inc()
        control.started = True
        try:
            control.check()
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, engine, control)
        finally:
            self._metrics.running.dec()
            self._engines.put_nowait(engine)
            self._mean_seconds += 0.2 * (time.monotonic() - started - self._mean_seconds)

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()

    def _retry_seconds(self) -> int:
        """When a place is free at the pace so far."""
        return min(_LONGEST_RETRY_SECONDS, max(1, math.ceil(self._mean_seconds / self._jobs)))
