"""Looking at a checkpoint's files without leaving a trace beside them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from migrator.errors import ArchiveBusy, ArchiveUnwritable

Looks = tuple[tuple[int, int, int] | None, ...]
"""Inode, time of the last change in nanoseconds and size, of the database and of its log."""


def log(path: Path) -> Path:
    """Return where the write-ahead log of the database ``path`` is."""
    return path.with_name(path.name + "-wal")


def index(path: Path) -> Path:
    """Return where the index of that log is, which all that use the database share."""
    return path.with_name(path.name + "-shm")


def log_size(path: Path) -> int:
    """Return the size of the log in bytes, 0 without one."""
    with contextlib.suppress(FileNotFoundError):
        return log(path).stat().st_size
    return 0


def looks(path: Path) -> Looks:
    """Return what changes whenever somebody writes the database ``path``."""
    found: list[tuple[int, int, int] | None] = []
    for file in (path, log(path)):
        try:
            status = file.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except FileNotFoundError:
            found.append(None)
    return tuple(found)


def copied(path: Path, folder: Path) -> Path:
    """Copy the database and its log into ``folder``, both of one moment.

    Raises ArchiveBusy when they never stand still, ArchiveUnwritable when there is no room.
    """
    target = folder / path.name
    for _ in range(5):
        before = looks(path)
        try:
            shutil.copyfile(path, target)
            log(target).unlink(missing_ok=True)
            shutil.copyfile(log(path), log(target))
        except FileNotFoundError:
            pass  # the log may be folded in meanwhile
        except OSError as error:
            raise ArchiveUnwritable(
                f"The checkpoint {str(path)!r} has a log and can be read from a copy only, but it "
                f"cannot be copied to {str(folder)!r}: {error.strerror or error}."
            ) from error
        if looks(path) == before:
            return target
    raise ArchiveBusy(f"The checkpoint {str(path)!r} changes all the time. Try again later.")
