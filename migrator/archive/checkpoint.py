"""The checkpoint: one SQLite file, one way to write it, one border for its errors."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from migrator.errors import ArchiveBusy, ArchiveDamaged, ArchiveError, ArchiveUnwritable

NAME = "checkpoint.db"
BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that is writing."""

_ROWS = (64, 16, 4, 1)
"""Rows of one statement: a few sizes, so that each is prepared once."""

_OLDEST = (3, 37, 0)  # the first with STRICT tables

Params = Sequence[object] | Mapping[str, object]
Tuple = tuple[Any, ...]
T = TypeVar("T")

_FOREIGN = (sqlite3.Error, OverflowError, UnicodeEncodeError)
"""What SQLite raises, also for a value that it cannot hold."""


def translate(error: Exception, path: Path) -> ArchiveError:
    """Return the error for a user whose checkpoint at ``path`` made SQLite raise ``error``."""
    name = repr(str(path))
    code: int = getattr(error, "sqlite_errorcode", 0)
    unreadable = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    text = str(error)
    if text.startswith("Could not decode to UTF-8"):  # without a code, and with the bytes
        text, code = "a text in it is no text", sqlite3.SQLITE_CORRUPT
    elif text.startswith(("no such table", "no such column")):
        code = sqlite3.SQLITE_CORRUPT
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return ArchiveBusy(
                f"The checkpoint {name} is locked by another process. Try again in a moment."
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            pass
        case sqlite3.SQLITE_IOERR if code in unreadable:
            pass
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return ArchiveUnwritable(
                f"The checkpoint {name} cannot be written: {error}. Check free space and "
                "permissions, then start again; nothing stored is lost."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return ArchiveUnwritable(
                f"The checkpoint {name} is read-only: run as the owner of the archive, or make "
                "the file, its directory and the file system writable."
            )
        case _:
            return ArchiveError(f"The checkpoint {name} refused an operation: {error}.")
    return damaged(text, path)


def damaged(what: str, path: Path | None = None) -> ArchiveDamaged:
    """Return the error for a user whose checkpoint, perhaps of that path, is damaged."""
    name = "" if path is None else f" {str(path)!r}"
    return ArchiveDamaged(
        f"The checkpoint{name} is damaged: {what}. Keep the archive as it is, copy it, and bring "
        "the checkpoint back from a backup or with `sqlite3 checkpoint.db .recover`."
    )


@functools.cache
def _for_rows(sql: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.replace("{rows}", ", ".join([row] * rows))


class Border:
    """The context in which errors of SQLite end and become ours."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Enter the border."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Translate what SQLite raised, also for a value that it cannot hold."""
        if isinstance(error, _FOREIGN):
            raise translate(error, self._path) from error


class Checkpoint:
    """A connection to the checkpoint, usable from all threads, by one of them at a time.

    Reading waits for a transaction of another thread and never sees half of one.
    """

    page: int = 1000
    """Rows read at once while streaming: between pages other threads and processes may write."""

    def __init__(self, conn: sqlite3.Connection, path: Path) -> None:
        """Take over ``conn``, which must be in autocommit mode; ``path`` is for error texts."""
        self.conn = conn
        self.path = path
        self.border = Border(path)
        self._lock = threading.RLock()
        self._depth = 0
        self._whole = self._spoilt = False

    @classmethod
    def connect(cls, path: Path) -> Checkpoint:
        """Open the existing file ``path`` for reading and writing.

        Raises ArchiveDamaged, ArchiveBusy, ArchiveUnwritable.
        """
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ArchiveError(
                f"Python was built with SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed."
            )
        with Border(path):
            conn = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
        self = cls(conn, path)
        try:
            self.execute("PRAGMA journal_mode = WAL")
            self.execute("PRAGMA synchronous = FULL")
            self.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            conn.close()
            raise
        return self

    def close(self) -> None:
        """Close the connection; harmless when called again."""
        with self._lock, self.border:
            self.conn.close()

    def execute(self, sql: str, params: Params = ()) -> list[Tuple]:
        """Run one statement and return its rows, all of them: no cursor stays open."""
        with self._lock:
            try:
                return self.conn.execute(sql, params).fetchall()
            except _FOREIGN as error:  # as the border does, which costs as much as a small query
                raise translate(error, self.path) from error

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of many rows of parameters."""
        if rows:
            with self._lock, self.border:
                self.conn.executemany(sql, rows)

    def execute_rows(self, sql: str, rows: Sequence[Sequence[object]]) -> list[Tuple]:
        """Run a statement about many rows and return what it returns, in any order.

        ``{rows}`` in it stands for the rows, as for VALUES. What SQLite does once for a statement
        costs more than what it does for a row.
        """
        found: list[Tuple] = []
        start = 0
        with self._lock:
            while start < len(rows):
                size = next(size for size in _ROWS if size <= len(rows) - start)
                batch = rows[start : start + size]
                values = list(itertools.chain.from_iterable(batch))
                found += self.execute(_for_rows(sql, len(batch[0]), size), values)
                start += size
        return found

    def pages(
        self, sql: str, after: object, params: Params = (), *, limit: int | None = None
    ) -> Iterator[list[Tuple]]:
        """Yield what a query finds page by page: between them others may write.

        ``sql`` asks for what is above ``after``, by its first column, then for ``params``, and
        for a number of rows, at most ``limit`` in all.
        """
        left = limit
        while left is None or left > 0:
            most = self.page if left is None else min(left, self.page)
            page = self.execute(sql, (after, *params, most))
            if not page:
                return
            yield page
            after = page[-1][0]
            left = None if left is None else left - len(page)

    def stream(
        self, sql: str, after: object, params: Params = (), *, limit: int | None = None
    ) -> Iterator[Tuple]:
        """Yield the rows of :meth:`pages`, one by one."""
        return itertools.chain.from_iterable(self.pages(sql, after, params, limit=limit))

    def read_through(self, sql: str) -> None:
        """Read all that a query gives, row by row, and forget it: only whether it can be read."""
        with self._lock, self.border:
            for _ in self.conn.execute(sql):
                pass

    def one(self, sql: str, params: Params = ()) -> Tuple | None:
        """Return the first row of a query, or None.

        What SQLite cannot hold is not there: a number of over 64 bits, half a surrogate pair.
        """
        with self._lock, self.border:
            try:
                rows = self.conn.execute(sql, params).fetchall()
            except (OverflowError, UnicodeEncodeError):
                return None
        return rows[0] if rows else None

    def moment(self) -> object:
        """Return what is another after every change, be it of this process or of another one.

        What was found out at a moment holds as long as the moment is the same.
        """
        with self._lock:
            try:
                (version,) = self.conn.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:  # as the border does, which costs more than asking
                raise translate(error, self.path) from error
            return version, self.conn.total_changes

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds with several queries, all of the same moment."""
        with self._lock:
            if self.conn.in_transaction:
                return read()
            self.execute("BEGIN")
            try:
                return read()
            finally:
                if self.conn.in_transaction:
                    self.execute("COMMIT")

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Make all writes of the block happen, durably, or none of them.

        The outermost block is a transaction that is on disk when the block ends; blocks inside
        it are savepoints, but in :meth:`whole`. Other threads wait meanwhile.
        """
        with self._lock:
            if self._whole:
                try:
                    yield
                except BaseException:
                    self._spoilt = True
                    raise
                return
            if self.conn.in_transaction:
                self._depth += 1
                name = f"level_{self._depth}"
                begin, commit = f"SAVEPOINT {name}", f"RELEASE {name}"
                undo = [f"ROLLBACK TO {name}", commit]
            else:
                # IMMEDIATE: a reader that turns writer could not wait for another process.
                begin, commit, undo = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
                self._depth = 0
            self.execute(begin)
            try:
                yield
                self.execute(commit)
            except BaseException:
                # A full disk makes SQLite throw the whole transaction away by itself.
                for statement in undo if self.conn.in_transaction else ():
                    self.execute(statement)
                raise
            finally:
                self._depth = max(self._depth - 1, 0)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Make the block a transaction of which an error anywhere inside undoes all.

        So blocks inside it need no savepoints, which take a fifth of the time of a small write.
        Raises ArchiveError when such an error was caught and the block ended as if all was well.
        """
        with self.atomic():
            self._whole, self._spoilt = True, False
            try:
                yield
            finally:
                self._whole = False
            if self._spoilt:
                raise ArchiveError("A part of a transaction failed, so nothing of it is kept.")

    @contextlib.contextmanager
    def in_passing(self) -> Iterator[None]:
        """Make the writes of the block, if that is possible now, at once and without a flush.

        For notes that nobody misses: neither the caller nor other threads wait for the disk or
        for another process. Raises ArchiveBusy when that one is writing.
        """
        with self._lock:
            self.execute("PRAGMA busy_timeout = 0")
            # In a write-ahead log that costs durability only: the next full commit flushes all.
            self.execute("PRAGMA synchronous = NORMAL")
            try:
                with self.atomic():
                    yield
            finally:
                self.execute("PRAGMA synchronous = FULL")
                self.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
