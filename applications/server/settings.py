"""What the server is told: its engine, how much it takes at once, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import checked
from dtfsal.runtime.live.page import is_loopback

_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "jobs": (1, 256),
    "queue": (0, 10_000),
    "max_megabytes": (1, 1_000_000),
    "max_seconds": (0.1, 1e6),
    "timeout_seconds": (0.1, 1e6),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server works.

    Attributes:
        engine: as `SaliencyPredictor` takes it; each job has one of its own.
        device: what the engines run on.
        threads: CPU threads of each engine; None for the cores shared among the jobs.
        trust: whether an engine may run native code that it brings.
        jobs: videos that are predicted at the same time.
        queue: requests that may be received or wait beyond those; more are refused.
        max_megabytes: the largest video, in units of 10^6 bytes.
        max_seconds: the longest video.
        timeout_seconds: the longest from a request to its last map, and the longest that its answer may take to send.
        url_patterns: URLs that the server may fetch, such as "https://media.example.org/*"; none by default.
        private_addresses: whether such a URL may lead to an address that is not public.
        host: the address to listen on.
        port: 0 for any that is free.
        token: that a request must give; None for none.
        open_to_all: whether an address beyond this machine may go without a token, since something before it asks.
        temporary: the folder for videos and results; None for the system's.

    Raises:
        UsageError: on construction, when a value can't work.
    """

    engine: str | os.PathLike[str] = DEFAULT_ENGINE
    device: str = "auto"
    threads: int | None = None
    trust: bool = False
    jobs: int = 1
    queue: int = 16
    max_megabytes: int = 200
    max_seconds: float = 300.0
    timeout_seconds: float = 600.0
    url_patterns: tuple[str, ...] = ()
    private_addresses: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    open_to_all: bool = False
    temporary: Path | None = None

    def __post_init__(self) -> None:
        for name, bounds in _BOUNDS.items():
            checked(name, getattr(self, name), bounds)
        if self.token is not None and not (self.token and self.token.isascii() and self.token.isprintable()):
            raise UsageError("a token must be printable ASCII and not empty")
        if self.token is None and not self.open_to_all and not is_loopback(self.host):
            raise UsageError(
                f"{self.host} is reached from other machines: give a token by --token-file, or --no-token if something "
                "before this server asks who comes"
            )
        if self.temporary is not None and not self.temporary.is_dir():
            raise UsageError(f"there is no folder {self.temporary} for temporary files; make it, or name another")

    @property
    def max_bytes(self) -> int:
        """The largest video in bytes."""
        return self.max_megabytes * 10**6

    @property
    def threads_of_each(self) -> int:
        """CPU threads of each engine."""
        return self.threads or max(1, default_threads() // self.jobs)
