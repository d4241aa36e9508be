"""Sources that can be read once, such as pipes: kept in a temporary file while anyone reads them."""

import contextlib
import errno
import os
import select
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from dtfsal.runtime.media.errors import MediaError

MOST_BYTES: Final = 8 * 2**30
# How long a pipe may have no writer, and how long a writer may say nothing.
OPEN_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 60.0
_BLOCK: Final = 2**20
_DESCRIPTORS: Final = Path("/proc/self/fd")

_lock = threading.Lock()
_spools: dict[str, "Spool"] = {}


class Spool:
    """What came through a pipe, in a temporary file that is gone when its last reader lets go of it.

    Where the system opens files by their descriptors, it never has a name: nothing stays of a process that is killed.

    Attributes:
        path: to open it by.
        size_bytes: of what came.
    """

    def __init__(self, source: Path) -> None:
        """Read the pipe to its end.

        Raises:
            MediaError: nothing comes, too much comes, or there is no place for it.
        """
        self.readers = 1
        made = tempfile.TemporaryFile if _DESCRIPTORS.is_dir() else tempfile.NamedTemporaryFile
        try:
            self._file = made(prefix="dtfsal-", suffix=".spool")
            self.path = _DESCRIPTORS / str(self._file.fileno()) if _DESCRIPTORS.is_dir() else Path(self._file.name)
            try:
                self.size_bytes = _drain(source, self._file)
                self._file.flush()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise _unreadable(source, error) from error

    def close(self) -> None:
        """Let the file go."""
        with contextlib.suppress(OSError):  # what was not written, on a full disk
            self._file.close()


def is_pipe(path: Path) -> bool:
    """Whether a path is what can be read once only: a pipe, a socket, or a character device.

    Raises:
        OSError: there is nothing.
    """
    mode = path.stat().st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


def acquire(path: Path) -> Spool:
    """The file for a pipe: one for all that read the same pipe at the same time. Give it back with `release`."""
    with _lock:
        spool = _spools.get(str(path))
        if spool is None:
            spool = _spools[str(path)] = Spool(path)
        else:
            spool.readers += 1
        return spool


def release(path: Path) -> None:
    """Let go of `acquire`'s file."""
    with _lock:
        spool = _spools[str(path)]
        spool.readers -= 1
        if not spool.readers:
            del _spools[str(path)]
            spool.close()


@contextlib.contextmanager
def connected(path: Path) -> Iterator[None]:
    """Wait until something can be read from a pipe, and take nothing: to open it in the block without hanging.

    Raises:
        MediaError: nothing comes.
    """
    with _open(path) as descriptor:
        if not select.select([descriptor], [], [], OPEN_SECONDS)[0]:
            raise MediaError(_nothing_came(path))
        yield


def _unreadable(source: Path, error: OSError) -> MediaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MediaError(
            f"{source} must be kept in a temporary file, and no space is left for it in {tempfile.gettempdir()}; set "
            "TMPDIR to another folder"
        )
    return MediaError(f"{source} cannot be read ({error.strerror or error}); save it as a file first")


def _nothing_came(path: Path) -> str:
    return f"nothing came through {path} within {OPEN_SECONDS:.0f} s; is a program writing to it?"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if os.isatty(descriptor):
            raise MediaError(f"{path} is a terminal; send a video through a pipe, or name a file")
        yield descriptor
    finally:
        os.close(descriptor)


def _drain(source: Path, file: IO[bytes]) -> int:
    with _open(source) as descriptor:
        return _copy(source, descriptor, file)


def _copy(source: Path, descriptor: int, file: IO[bytes]) -> int:
    size, connected, since = 0, False, time.monotonic()
    while True:
        try:
            block = os.read(descriptor, _BLOCK)
        except BlockingIOError:  # a writer is there and says nothing yet
            connected = True
            if not select.select([descriptor], [], [], SILENT_SECONDS)[0]:
                raise MediaError(
                    f"nothing came through {source} for {SILENT_SECONDS:.0f} s; check the program that writes to it"
                ) from None
            continue
        if block:
            connected = True
            size += len(block)
            if size > MOST_BYTES:
                raise MediaError(
                    f"more than {MOST_BYTES // 2**30} GiB came through {source}, and all of it must be kept; save it "
                    "as a file first"
                )
            file.write(block)
        elif connected:
            return size
        elif time.monotonic() - since > OPEN_SECONDS:
            raise MediaError(_nothing_came(source))
        else:
            time.sleep(0.02)
