"""The runtime's errors: those of the engines, and those of media that come in and files that go out."""

from dtfsal.engines.errors import DtfsalError, EngineError, EngineMismatchError, UnavailableError, UsageError


class MediaError(DtfsalError):
    """A video or sound file is missing, damaged, or holds nothing to predict. Exit code 3."""

    exit_code = 3


class OutputError(DtfsalError):
    """A result cannot be written: the place is not writable, or the disk is full. Exit code 6."""

    exit_code = 6


__all__ = [
    "DtfsalError",
    "EngineError",
    "EngineMismatchError",
    "MediaError",
    "OutputError",
    "UnavailableError",
    "UsageError",
]
