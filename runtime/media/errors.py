"""What is wrong with media, and what is not their fault."""

import errno

from dtfsal.engines.errors import DtfsalError, UnavailableError


class MediaError(DtfsalError):
    """A video or sound file is missing, damaged, or holds nothing to predict. Exit code 3."""

    exit_code = 3


def memory_is_limited() -> bool:
    """Whether this process may not take all the memory that the system would give it."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return False
    return any(
        resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    )


def shortage(error: BaseException, *, starting_threads: bool = False) -> UnavailableError | None:
    """What a process lacks by an operating system's error, or None where the error is of another kind.

    Args:
        error: of Python or FFmpeg.
        starting_threads: whether "try again" means that no thread could be started, as where a decoder is opened.
    """
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        return UnavailableError(
            "this process may open no more files: raise its limit, e.g. with `ulimit -n 1024`, and run again"
        )
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or (starting_threads and number == errno.EAGAIN)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
    ):
        return UnavailableError(
            "this process gets no more memory or threads: raise its limits (`ulimit -v`, `ulimit -u`), or close other "
            "programs, and run again"
        )
    return None
