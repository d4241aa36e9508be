"""Outputs that are whole or not there: unfinished ones lie beside their place, under a name that one run holds.

The name follows from the output's, and the run that writes it holds a lock on it (`flock`), which the system takes back
however the run ends. So a second run of the same output is refused before it works, and what a killed run left is
found, and taken over, by the next run of the same output. Nothing else is ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dtfsal.engines.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no flock: two runs of one output are not told apart there
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 255  # bytes, of a file's name on all usual systems
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def beside(final: Path, what: str = "partial") -> Path:
    """The name beside an output for what is not finished: `.out.dtfsal-partial.mp4` of `out.mp4`."""
    name = f".{final.stem}.dtfsal-{what}{final.suffix}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
        name = f".{digest}.dtfsal-{what}{final.suffix if len(os.fsencode(final.suffix)) < 100 else ''}"
    return final.with_name(name)


@contextlib.contextmanager
def partial_file(final: Path) -> Iterator[Path]:
    """An empty file beside `final` that takes its name when the block ends well, and is removed when it does not.

    Raises:
        OutputError: another run writes this output.
        OSError: the place cannot be written to.
    """
    partial = beside(final)
    lock = _hold(final, partial, lambda: os.open(partial, _NEW_FILE, 0o666), stat.S_ISREG)
    try:
        os.ftruncate(lock, 0)  # what a killed run left
        try:
            yield partial
            partial.replace(final)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    finally:
        os.close(lock)


@contextlib.contextmanager
def held(final: Path, *, waits: bool = False) -> Iterator[None]:
    """A lock on an output for as long as the block, for those who work long before they write it, or write it often.

    Args:
        final: the output; its folder exists.
        waits: whether to wait for another run that holds it, instead of being refused.

    Raises:
        OutputError: another run holds it.
        OSError: the place cannot be written to.
    """
    mark = beside(final, "lock")
    lock = _hold(final, mark, lambda: os.open(mark, _NEW_FILE, 0o666), stat.S_ISREG, waits=waits)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink()
        os.close(lock)


@contextlib.contextmanager
def partial_folder(final: Path, what: str = "partial") -> Iterator[Path]:
    """An empty folder beside `final`, for the block to fill and rename; it is removed if it is still there at the end.

    What `replace_folder` had set aside when a run was killed is put back, or removed if its successor is in place.

    Raises:
        OutputError: another run writes this output.
        OSError: the place cannot be written to.
    """
    partial = beside(final, what)

    def opened() -> int:
        partial.mkdir(exist_ok=True)
        return os.open(partial, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)

    lock = _hold(final, partial, opened, stat.S_ISDIR)
    try:
        for entry in partial.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        aside = beside(final, "replaced")
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside) if os.path.lexists(final) else aside.rename(final)
        yield partial
    finally:
        if _is_at(lock, partial):
            shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def replace_folder(partial: Path, final: Path) -> None:
    """Rename a folder of `partial_folder` to its final name; an older one steps aside, and comes back if that fails."""
    if not final.is_dir():
        partial.rename(final)
        return
    aside = beside(final, "replaced")
    try:
        final.rename(aside)
        partial.rename(final)
    except BaseException:
        if not final.exists() and aside.exists():
            aside.rename(final)
        raise
    finally:
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)


_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW_FILE = os.O_RDWR | os.O_CREAT | _NO_FOLLOW


def _hold(
    final: Path, partial: Path, opened: Callable[[], int], is_kind: Callable[[int], bool], *, waits: bool = False
) -> int:
    """A descriptor of the partial file or folder, with its lock; whoever made it, it lies at its name."""
    for _ in range(100):
        lock = opened()
        try:
            found = os.fstat(lock)
            foreign = hasattr(os, "geteuid") and found.st_uid != os.geteuid()
            if not is_kind(found.st_mode) or foreign or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
                raise OutputError(f"cannot write {final}: {partial} is in the way and is not ours; remove it")
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(lock)
            raise OutputError(f"{final} is being written by another run; wait for it, or name another output") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(lock)
                raise
        except BaseException:
            os.close(lock)
            raise
        if _is_at(lock, partial):
            return lock
        os.close(lock)  # the run that held it has just finished, and it has its final name
    raise OutputError(f"{final} is being written by other runs all the time; name another output")


def _is_at(lock: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    held = os.fstat(lock)
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)
