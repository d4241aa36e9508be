"""Worker processes of one engine each: a worker that dies costs its video an attempt, and nothing else.

`concurrent.futures` gives up a whole pool when one of its processes is killed, and cannot say whose work killed it.
Here each process has a pipe of its own. So the video that it worked at is known, and another process tries it again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol

ATTEMPTS: Final = 2  # at a video that kills its process
_STEP_SECONDS: Final = 0.2  # between two messages about progress
_PATIENCE_SECONDS: Final = 10.0  # for a process to remove its partial files


class Worker(Protocol):
    """What a process makes once and then calls; it and its maker travel to the process."""

    def __call__(self, task: Any, report: Reporter) -> Any:
        """Do a task; the result travels back. No exception may leave it but those that end the process."""


class Maker(Protocol):
    """Makes a `Worker` in its process."""

    def __call__(self) -> Worker:
        """The worker; an exception travels back and ends the run."""


class Reporter:
    """Tells the parent how far a task is, a few times a second at most.

    Args:
        pipe: to the parent.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._next = 0.0

    def __call__(self, share: float) -> None:
        """A share of the task, from 0 to 1, is done."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _STEP_SECONDS
            self._pipe.send(("share", share))


class _Process:
    """A process, its pipe, and what it works at: a task's number, or None."""

    def __init__(self, maker: Maker) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, maker), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None


def run_tasks(maker: Maker, tasks: Sequence[Any], workers: int) -> Iterator[tuple[str, int, Any]]:
    """Do tasks in processes.

    Args:
        maker: makes each process's worker.
        tasks: what a worker is called with, each; taken in order.
        workers: processes.

    Yields:
        ("share", number, share) while a task is done, then ("result", number, result), or ("died", number, exit code)
        where it killed its process `ATTEMPTS` times. ("again", number, exit code) tells of a death before.

    Raises:
        Exception: what a maker raised.
    """
    waiting = deque(range(len(tasks)))
    deaths: dict[int, int] = {}
    processes: list[_Process] = []
    try:
        while True:
            for one in processes:
                if one.number is None and waiting:
                    one.number = waiting.popleft()
                    _send(one, tasks[one.number])
            while waiting and len(processes) < workers:
                processes.append(one := _Process(maker))
                one.number = waiting.popleft()
                _send(one, tasks[one.number])
            busy = [one for one in processes if one.number is not None]
            if not busy:
                return
            ready = wait([one.pipe for one in busy])
            for one in [one for one in busy if one.pipe in ready]:
                number = one.number
                assert number is not None
                try:
                    kind, value = one.pipe.recv()
                except (EOFError, OSError):  # it died, and all that it had sent was read
                    one.process.join(_PATIENCE_SECONDS)
                    processes.remove(one)
                    one.pipe.close()
                    deaths[number] = deaths.get(number, 0) + 1
                    again = deaths[number] < ATTEMPTS
                    if again:
                        waiting.append(number)
                    yield "again" if again else "died", number, one.process.exitcode
                    continue
                if kind == "unusable":
                    raise value
                if kind == "result":
                    one.number = None
                yield kind, number, value
    finally:
        _end(processes)


def _send(one: _Process, task: Any) -> None:
    with contextlib.suppress(OSError):  # it died; its pipe's end is read next
        one.pipe.send(task)


def _end(processes: Sequence[_Process]) -> None:
    """Ask the processes to stop: those that work unwind, and remove their partial files."""
    for one in processes:
        one.pipe.close()
        if one.number is not None:
            one.process.terminate()
    until = time.monotonic() + _PATIENCE_SECONDS
    for one in processes:
        one.process.join(max(0.0, until - time.monotonic()))
        if one.process.is_alive():
            one.process.kill()
            one.process.join()


def _work(pipe: Connection, maker: Maker) -> None:
    """A process: makes its worker, then does what comes through the pipe until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent of the terminal's Ctrl-C decides
    signal.signal(signal.SIGTERM, _unwind)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    try:
        worker = maker()
    except Exception as error:
        pipe.send(("unusable", error))
        return
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(("result", worker(task, Reporter(pipe))))


def _unwind(_number: int, _frame: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _watch(parent: int) -> None:
    """End with the parent, at once: what is unfinished lies under partial names, and the next run takes it over."""
    wait([parent])
    os._exit(1)
