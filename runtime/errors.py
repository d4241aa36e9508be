"""The runtime's errors: those of the engines, and those of media."""

from dtfsal.engines.errors import (
    DtfsalError,
    EngineError,
    EngineMismatchError,
    OutputError,
    UnavailableError,
    UsageError,
)


class MediaError(DtfsalError):
    """A video or sound file is missing, damaged, or holds nothing to predict. Exit code 3."""

    exit_code = 3


__all__ = [
    "DtfsalError",
    "EngineError",
    "EngineMismatchError",
    "MediaError",
    "OutputError",
    "UnavailableError",
    "UsageError",
]
