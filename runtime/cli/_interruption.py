"""Ctrl-C, SIGTERM and SIGHUP as KeyboardInterrupt, so that a stopped run unwinds and removes its partial files."""

from __future__ import annotations

import _thread
import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# While partial files are removed, an impatient second Ctrl-C must not stop that; after this time it counts again.
_PATIENCE_SECONDS = 2.0
_AGAIN_SECONDS = 0.01
# SIGHUP is the end of a terminal; Windows has none.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """Whether the run was asked to stop, and the handlers that notice it.

    Python raises KeyboardInterrupt wherever the main thread happens to be. In a weak reference's callback or in a
    library's callback nobody can catch it, and the run would go on. If the interpreter tells of such a dropped
    interrupt it is raised again a moment later; if it does not, `check_interruption` raises it at the next step.

    Attributes:
        requested: whether SIGINT, SIGTERM or SIGHUP has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._raised_at = -math.inf
        self._number: int = signal.SIGINT
        self._timers: list[threading.Timer] = []
        self._hook_before = sys.unraisablehook

    @contextlib.contextmanager
    def handled(self, *, process_ends: bool = False) -> Iterator[None]:
        """Handle the signals in a with block; outside the main thread, where signals can't be set, do nothing.

        Args:
            process_ends: whether nothing but the end of the process follows; once interrupted, it ends undisturbed.
        """
        global _current
        with contextlib.ExitStack() as stack:
            handled = []
            try:
                for number in _SIGNALS:
                    # What ignores Ctrl-C, as a shell's background job does, goes on ignoring it.
                    if signal.getsignal(number) is not signal.SIG_IGN:
                        stack.callback(signal.signal, number, signal.signal(number, self._interrupt))
                        handled.append(number)
            except ValueError:  # not the main thread
                yield
                return
            self._hook_before = sys.unraisablehook
            stack.callback(setattr, sys, "unraisablehook", self._hook_before)
            sys.unraisablehook = self._dropped
            stack.callback(self._cancel)
            before, _current = _current, self
            try:
                yield
            finally:
                _current = before
                if self.requested and process_ends:
                    for number in handled:
                        signal.signal(number, signal.SIG_IGN)
                    self._cancel()
                    stack.pop_all()

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._number = number
        now = time.monotonic()
        if now - self._raised_at >= _PATIENCE_SECONDS:
            self._raised_at = now
            raise KeyboardInterrupt

    def _dropped(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Called for an exception that Python can't pass on."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook_before(unraisable)
            return
        self._raised_at = -math.inf
        # Not here and now: an exception would be dropped again.
        timer = threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main, (self._number,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()


_current: Interruption | None = None


def check_interruption() -> None:
    """Raise KeyboardInterrupt if the command was asked to stop and has not. For the steps of long work."""
    if _current is not None and _current.requested:
        raise KeyboardInterrupt
