"""Where the time goes: seconds by stage of work, each second counted once."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class StageClock:
    """Adds up host time by stage. A stage entered within another stops the outer one's clock until it is left.

    clock = StageClock()
    with clock.stage("preprocess"):
        for frame in clock.timed("decode", reader):  # not counted as preprocess
            ...
    clock.seconds  # {"preprocess": 0.2, "decode": 1.3}
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a with block as this stage's."""
        self._switch()
        self._running.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

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
        """Give the time since the last switch to the innermost running stage."""
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
