"""Errors as HTTP tells them: a status by kind, and one sentence in JSON."""

from __future__ import annotations

from typing import Any

from dtfsal.engines.errors import DtfsalError, EngineError, OutputError, UnavailableError, UsageError
from dtfsal.runtime.media.errors import MediaError

# The first kind that an error is of decides. An output here is a temporary file: the disk is full for a while.
_STATUSES: tuple[tuple[type[DtfsalError], int, str], ...] = (
    (UsageError, 400, "wrong-request"),
    (MediaError, 422, "bad-media"),
    (EngineError, 500, "engine-failed"),
    (UnavailableError, 503, "unavailable"),
    (OutputError, 503, "no-space"),
)
RETRY_SECONDS = 5


class Refusal(DtfsalError):  # noqa: N818 - an answer like others
    """A request that is not answered with maps.

    Attributes:
        status: of HTTP.
        kind: a word for programs.
        retry_seconds: when to try again; None where that would not help.
    """

    def __init__(self, status: int, kind: str, message: str, *, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_seconds = retry_seconds


def refusal(error: DtfsalError, *, hide: str = "") -> Refusal:
    """Any of the project's errors as a refusal.

    Args:
        error: what was raised.
        hide: a path of the server that the sentence may name, which a client gets to read as "what was sent".
    """
    if isinstance(error, Refusal):
        return error
    text = str(error).replace(hide, "what was sent") if hide else str(error)
    for kind_of_error, status, kind in _STATUSES:
        if isinstance(error, kind_of_error):
            return Refusal(status, kind, text, retry_seconds=RETRY_SECONDS if status == 503 else None)
    return Refusal(500, "failed", text)


def body_of(error: Refusal) -> dict[str, Any]:
    """What a client reads: {"error": {"status": 422, "kind": "bad-media", "message": "..."}}."""
    return {"error": {"status": error.status, "kind": error.kind, "message": str(error)}}
