"""A progress bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from dtfsal.runtime.cli._interruption import check_interruption


class Progress:
    """A progress bar on stderr, a no-op where that is not a terminal or it is not wanted.

    Args:
        total: steps in all, or None if that is not known.
        unit: what a step is; empty for no bar before `restart`.
        label: what stands before the bar.
        wanted: False for no bar in any case.

    Attributes:
        unit: what a step is now.
    """

    def __init__(self, total: int | None = None, unit: str = "", *, label: str = "", wanted: bool = True) -> None:
        self._wanted = wanted and sys.stderr.isatty()
        self._label = label
        self._bar: Any = None
        self.unit = ""
        if unit:
            self.restart(total, unit)

    @property
    def shown(self) -> bool:
        """Whether there is a bar to see."""
        return self._bar is not None

    def restart(self, total: int | None, unit: str, done: int = 0) -> None:
        """Begin a new bar in place of the last, with so many steps done already."""
        self._close()
        self.unit = unit
        if self._wanted:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=done,
                desc=self._label or None,
                unit=f" {unit}",
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )

    def step(self, note: str = "", *, count: int = 1, total: int | None = None) -> None:
        """Count steps; raise KeyboardInterrupt if the command was asked to stop.

        Args:
            note: what stands behind the bar.
            count: how many.
            total: steps in all, where that is known only now.
        """
        check_interruption()
        if self._bar is not None:
            self._bar.total = total or self._bar.total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
