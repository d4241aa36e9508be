"""A bar on a terminal, nothing elsewhere."""

import sys
from types import TracebackType
from typing import Any, Self


class Bar:
    """Steps done, of so many, with an optional note behind.

    Args:
        total: steps in all.
        unit: what a step is.
        wanted: False for no bar in any case.
        start: steps that are done already.
    """

    def __init__(self, total: int, unit: str, *, wanted: bool = True, start: int = 0) -> None:
        self._bar: Any = None
        if wanted and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=start, unit=f" {unit}", dynamic_ncols=True, leave=False, file=sys.stderr
            )

    def step(self, note: str = "") -> None:
        """Count one."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
