"""Looking at a checkpoint's files without leaving a trace beside them.

A checkpoint that is read and never written, not even by the files SQLite makes beside it.

Several such readers may stand side by side on one copy of an archive, also on a read-only file
system. They see what others write meanwhile, a revoked token for one. SQLite alone offers no such
thing: a reader of a write-ahead log makes and writes files, and one that is told that the database
never changes (``immutable``) does not notice when it does. So there are three ways to read, and
before and after each reading the files are looked at:

- without a log, the database as immutable;
- with a log and its index, through both; SQLite maps the index read-only then;
- with a log alone, as a copy of a killed run's archive has it, from a private copy of both.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from migrator.archive.checkpoint import BUSY_TIMEOUT, Border, Checkpoint, Params, Tuple
from migrator.errors import ArchiveBusy, ArchiveError, ArchiveUnwritable

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


T = TypeVar("T")

_TRIES = 20


class ReadOnlyCheckpoint(Checkpoint):
    """The checkpoint ``path``; every write raises ArchiveUnwritable."""

    def __init__(self, path: Path) -> None:
        """Open it; raises as :meth:`Checkpoint.connect`."""
        self._folder = contextlib.ExitStack()
        with Border(path):
            seen, conn = self._opened(path)
        super().__init__(conn, path)
        self._seen = seen
        self._opened_times = 1

    def close(self) -> None:
        """Close the connection; harmless when called again."""
        super().close()
        self._folder.close()

    def execute(self, sql: str, params: Params = ()) -> list[Tuple]:
        """Run one statement and return its rows."""
        read = super().execute
        return self._steady(lambda: read(sql, params))

    def one(self, sql: str, params: Params = ()) -> Tuple | None:
        """Return the first row of a query, or None."""
        read = super().one
        return self._steady(lambda: read(sql, params))

    def moment(self) -> object:
        """Return what is another after every change, also where the files become others."""
        read = super().moment
        # Each connection counts the changes that it sees from the beginning.
        return self._steady(lambda: (self._opened_times, read()))

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds with several queries, all of the same moment."""
        together = super().together
        with self._lock:
            for _ in range(_TRIES):
                conn = self.conn
                found = together(read)
                if self.conn is conn:  # it is another one after a change that no query would see
                    return found
        raise self._restless()

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Refuse."""
        raise ArchiveUnwritable(
            f"The checkpoint {str(self.path)!r} is open for reading only: for changes, run as the "
            "owner of the archive, where its file system is writable."
        )
        yield

    def _steady(self, read: Callable[[], T]) -> T:
        """Read until nobody wrote meanwhile in a way that this connection cannot notice."""
        with self._lock:
            for _ in range(_TRIES):
                if _look(self.path) != self._seen:
                    self._reopen()
                try:
                    found = read()
                except ArchiveError:
                    if _look(self.path) == self._seen:
                        raise
                    continue
                if _look(self.path) == self._seen:
                    return found
        raise self._restless()

    def _restless(self) -> ArchiveBusy:
        return ArchiveBusy(f"The checkpoint {str(self.path)!r} changes all the time. Try again.")

    def _reopen(self) -> None:
        with self.border:
            seen, conn = self._opened(self.path)
            self.conn.close()
        self.conn, self._seen = conn, seen
        self._opened_times += 1

    def _opened(self, path: Path) -> tuple[object, sqlite3.Connection]:
        seen = _look(path)
        self._folder.close()
        if not log_size(path):
            return seen, _connected(path, "mode=ro&immutable=1")
        if index(path).exists():
            return seen, _connected(path, "mode=ro&readonly_shm=1")
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="migrator-"))
        return seen, _connected(copied(path, Path(folder)), "mode=rw")


def _look(path: Path) -> object:
    """Return what differs when the way to read, or what is read, has become another.

    Through a log and its index SQLite sees changes by itself, as long as the files stay.
    """
    found = looks(path)
    if log_size(path) and index(path).exists():
        return [look and look[0] for look in found]
    return found


def _connected(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
