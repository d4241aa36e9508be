"""Where the time goes: seconds by stage of work, each second of a thread counted once."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


@dataclasses.dataclass
class _Running(threading.local):
    """The stages that a thread is in, the innermost last, and since when that one's clock has run."""

    stages: list[str] = dataclasses.field(default_factory=list)
    since: float = 0.0


class StageClock:
    """Adds up host time by stage. A stage entered within another stops the outer one's clock until it is left.

    Stages of several threads run side by side, so that together they may exceed the time that passes.

    clock = StageClock()
    with clock.stage("preprocess"):
        for frame in clock.timed("decode", reader):  # not counted as preprocess
            ...
    clock.seconds  # {"preprocess": 0.2, "decode": 1.3}
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running = _Running()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a with block as this stage's."""
        self._switch()
        self._running.stages.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.stages.pop()

    def timed(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on and count the time that it takes to get each as this stage's."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _switch(self) -> None:
        """Give the time since the last switch to the thread's innermost running stage."""
        now, running = time.perf_counter(), self._running
        if running.stages:
            stage = running.stages[-1]
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + now - running.since
        running.since = now
