"""The checkpoint: one SQLite file, the ways to open it, one place that translates its errors."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from migrator.archive import lock
from migrator.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArchiveError,
    ArchiveReplaced,
    ArchiveUnwritable,
    QueryStopped,
    SqliteTooOld,
)

NAME = "checkpoint.db"
BUSY_TIMEOUT = 10.0
"""Seconds to wait while another process is writing."""

_AGAIN = 0.02
"""Seconds between two attempts at what SQLite itself does not wait for."""

_ROWS = (64, 16, 4, 1)
"""Rows of one statement: a few sizes, so that each is prepared once."""

_OLDEST = (3, 37, 0)  # the first with STRICT tables

Params = Sequence[object] | Mapping[str, object]
Tuple = tuple[Any, ...]
T = TypeVar("T")

_FOREIGN = (sqlite3.Error, OverflowError, UnicodeEncodeError)
"""SQLite's errors, also for a value that it cannot hold."""


def translate(error: Exception, path: Path) -> ArchiveError:
    """Return the error for a user whose checkpoint at ``path`` made SQLite raise ``error``."""
    name = repr(str(path))
    code: int = getattr(error, "sqlite_errorcode", 0)
    unreadable = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    text = str(error)
    if text.startswith("Could not decode to UTF-8"):  # without a code, and with the bytes
        text, code = "a text in it is not UTF-8", sqlite3.SQLITE_CORRUPT
    elif text.startswith(("no such table", "no such column")):
        code = sqlite3.SQLITE_CORRUPT
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return ArchiveBusy(
                f"The checkpoint {name} is locked by another process. Try again in a moment."
            )
        case sqlite3.SQLITE_INTERRUPT:
            return QueryStopped("The query was stopped.")
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
    """Return the error for a damaged checkpoint, with its path if given."""
    name = "" if path is None else f" {str(path)!r}"
    return ArchiveDamaged(
        f"The checkpoint{name} is damaged: {what}. Copy the archive as it is, then restore "
        "the checkpoint from a backup or with `sqlite3 checkpoint.db .recover`."
    )


@functools.cache
def _for_rows(sql: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.replace("{rows}", ", ".join([row] * rows))


def folded(text: str) -> str:
    """Return a text as searches compare it: composed and decomposed, wide, upper-case forms alike.

    Case folds as in all languages at once: ß is ss, and the Turkish letters are an i.
    """
    if text.isascii():
        return text.lower()
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", once.replace("i\u0307", "i").replace("\u0131", "i"))


class Border:
    """A context that turns what SQLite raises, also for a value it cannot hold, into our errors."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Enter it, as often as wanted."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: object
    ) -> None:
        """Raise the translation of SQLite's error."""
        if isinstance(error, _FOREIGN):
            raise translate(error, self._path) from error


class Checkpoint:
    """A connection to the checkpoint that all threads may use, one at a time.

    Reading waits for a transaction of another thread and never sees half of one.
    """

    page: int = 1000
    """Rows read at once while streaming: between pages other threads and processes may write."""

    def __init__(self, conn: sqlite3.Connection, path: Path) -> None:
        """Use ``conn``, which must be in autocommit mode; ``path`` is for error texts.

        Raises SqliteTooOld.
        """
        if sqlite3.sqlite_version_info < _OLDEST:
            conn.close()
            raise SqliteTooOld(
                f"Python was built with SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed: "
                "use a newer Python, or one built with a newer SQLite."
            )
        self.conn = conn
        self.path = path
        self._border = Border(path)
        self._lock = threading.RLock()
        self._depth = 0
        self._whole = self._spoilt = False

    @classmethod
    def connect(cls, path: Path) -> Checkpoint:
        """Open the existing file ``path`` for reading and writing.

        Raises ArchiveDamaged, ArchiveBusy, ArchiveUnwritable.
        """
        with Border(path):
            conn = _connected(path, "mode=rw")
        self = cls(conn, path)
        try:
            self._write_ahead()
            self.execute("PRAGMA synchronous = FULL")
            self.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            conn.close()
            raise
        return self

    def _write_ahead(self) -> None:
        """Have SQLite write ahead; for this one statement, it waits for no other process itself."""
        patience = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self.execute("PRAGMA journal_mode = WAL")
            except ArchiveBusy:
                if time.monotonic() > patience:
                    raise
                time.sleep(_AGAIN)
            else:
                return

    def close(self) -> None:
        """Close the connection; harmless when called again."""
        with self._lock, self._border:
            self.conn.close()

    def execute(self, sql: str, params: Params = ()) -> list[Tuple]:
        """Run one statement and return all its rows: no cursor stays open."""
        with self._lock, self._border:
            return self.conn.execute(sql, params).fetchall()

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of many rows of parameters."""
        with self._lock, self._border:
            self.conn.executemany(sql, rows)

    def execute_rows(self, sql: str, rows: Sequence[Sequence[object]]) -> list[Tuple]:
        """Run a statement about many rows and return what it returns, in any order.

        ``{rows}`` in it stands for the rows, as behind VALUES or IN. What SQLite does once for a
        statement costs more than what it does for a row.
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
        self,
        sql: str,
        after: object,
        values: Mapping[str, object] | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[list[Tuple]]:
        """Yield the rows of a query page by page: between pages others may write.

        ``sql`` asks for ``:most`` rows above ``:after`` by its first column, with more ``values``;
        at most ``limit`` rows are given in all.
        """
        left = limit
        while left is None or left > 0:
            most = self.page if left is None else min(left, self.page)
            page = self.execute(sql, {**(values or {}), "after": after, "most": most})
            if not page:
                return
            yield page
            after = page[-1][0]
            left = None if left is None else left - len(page)

    def stream(
        self,
        sql: str,
        after: object,
        values: Mapping[str, object] | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[Tuple]:
        """Yield the rows of :meth:`pages`, one by one."""
        return itertools.chain.from_iterable(self.pages(sql, after, values, limit=limit))

    def read_through(self, sql: str) -> None:
        """Check that all rows of a query can be read; keep none of them."""
        with self._lock, self._border:
            for _ in self.conn.execute(sql):
                pass

    def one(self, sql: str, params: Params = ()) -> Tuple | None:
        """Return the first row of a query, or None.

        What SQLite cannot hold matches nothing: a number over 64 bits, half a surrogate pair.
        """
        with self._lock, self._border:
            try:
                rows = self.conn.execute(sql, params).fetchall()
            except (OverflowError, UnicodeEncodeError):
                return None
        return rows[0] if rows else None

    def moment(self) -> object:
        """Return a value that changes with every write, by this process or another.

        What was read at a moment holds as long as the moment is the same.
        """
        with self._lock, self._border:
            (version,) = self.conn.execute("PRAGMA data_version").fetchone()
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

    def copy_to(self, target: Path) -> None:
        """Write all of one moment to the new file ``target``: one file, without a log.

        Others may write meanwhile. Raises ArchiveUnwritable where it finds no room.
        """
        with self._lock, Border(target), contextlib.closing(sqlite3.connect(target)) as copy:
            self.conn.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Make all writes of the block durable, or none of them.

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
        """Make the block a transaction; an error anywhere inside undoes all of it.

        So blocks inside it need no savepoints, which take a fifth of the time of a small write.
        Raises ArchiveError when such an error was caught and the block ended normally.
        """
        with self._lock:
            # SQLite's undo data of one statement is small; keeping it in memory is faster than
            # preparing a file for it. Sorting millions of rows needs that file.
            self.execute("PRAGMA temp_store = MEMORY")
            try:
                with self.atomic():
                    self._whole, self._spoilt = True, False
                    try:
                        yield
                    finally:
                        self._whole = False
                    if self._spoilt:
                        raise ArchiveError("Part of a transaction failed; none of it was kept.")
            finally:
                self.execute("PRAGMA temp_store = DEFAULT")

    @contextlib.contextmanager
    def in_passing(self) -> Iterator[None]:
        """Write the block at once and without a flush.

        For records that may get lost: neither the caller nor other threads wait for the disk or
        for another process. Raises ArchiveBusy when another process is writing.
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
    """Return a value that changes with every write to the database ``path``."""
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


_TRIES = 20


class ReadOnlyCheckpoint(Checkpoint):
    """The checkpoint, opened without leaving files beside it; every write raises ArchiveUnwritable.

    Several such readers may use one copy of an archive, also on a read-only file system. They see
    what others write meanwhile, such as a revoked token. SQLite alone cannot do that: a reader of a
    write-ahead log creates and writes files, and one that opens the database as ``immutable`` does
    not notice changes. So there are three ways to read, and the files are checked before and after
    each reading:

    - without a log, the database as immutable;
    - with a log and its index, through both; SQLite maps the index read-only then;
    - with a log alone, as a copy of a killed run's archive has it, from a private copy of both.
    """

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
        """Return a value that changes with every write, also when the files are replaced."""
        read = super().moment
        # Each connection counts the changes that it sees from the beginning.
        return self._steady(lambda: (self._opened_times, read()))

    def copy_to(self, target: Path) -> None:
        """Write all of one moment to the new file ``target``."""
        copy_to = super().copy_to
        self._steady(lambda: copy_to(target))

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds with several queries, all of the same moment."""
        together = super().together
        with self._lock:
            for _ in range(_TRIES):
                conn = self.conn
                found = together(read)
                if self.conn is conn:  # replaced after a change that no query would see
                    return found
        raise self._restless()

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Raise ArchiveUnwritable."""
        raise ArchiveUnwritable(
            f"The checkpoint {str(self.path)!r} is open for reading only: for changes, run as the "
            "owner of the archive, where its file system is writable."
        )
        yield

    def _steady(self, read: Callable[[], T]) -> T:
        """Read again until no write happened meanwhile that this connection cannot notice."""
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
        with self._border:
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
        folder = self._folder.enter_context(lock.scratch())
        return seen, _connected(copied(path, folder), "mode=rw")


def _look(path: Path) -> object:
    """Return a value that differs when the files, or the way to read them, have changed.

    Through a log and its index SQLite sees changes by itself, as long as the files stay.
    """
    found = looks(path)
    if log_size(path) and index(path).exists():
        return [look and look[0] for look in found]
    return found


def _connected(path: Path, how: str) -> sqlite3.Connection:
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    conn.create_function("folded", 1, folded, deterministic=True)
    conn.create_function("is_blank", 2, _is_blank, deterministic=True)
    conn.create_function("searchable", 2, _searchable, deterministic=True)
    return conn


def _is_blank(text: str, is_html: bool) -> bool:
    from migrator.archive.bodies import is_blank  # noqa: PLC0415 - lxml costs start-up time

    return is_blank(text, is_html)


def _searchable(text: str, is_html: bool) -> str:
    from migrator.archive.bodies import searchable  # noqa: PLC0415 - as above

    return searchable(text, is_html).replace("\0", "\ufffd")


class Stop:
    """Stops the queries of one task, from any thread, as soon as they are asked to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conn: sqlite3.Connection | None = None
        self._is_set = False

    def set(self) -> None:
        """Stop the query under way and all later ones.

        A query that was about to begin is not met: call it again until the task has ended.
        """
        with self._lock:
            self._is_set = True
            if self._conn is not None:
                self._conn.interrupt()

    def check(self) -> None:
        """Raise QueryStopped once stopped."""
        if self._is_set:
            raise QueryStopped("The query was stopped.")

    def watch(self, conn: sqlite3.Connection | None) -> None:
        """Stop what this connection does, or nothing any more."""
        with self._lock:
            self._conn = conn
        self.check()


class _Mine(threading.local):
    """What one thread has open."""

    db: Checkpoint | None = None
    looks: object = None
    opened: int = 0
    stop: Stop | None = None


class ServedCheckpoint(Checkpoint):
    """The checkpoint of a server: a connection for each thread, so that no query delays another.

    Every use looks whether the file is still the one that is open. Another one in its place is
    opened and checked by ``check``, which raises for what must not be served. Every method raises
    ArchiveReplaced, too.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[Path], Checkpoint],
        check: Callable[[Checkpoint, bool], None],
    ) -> None:
        """Open nothing yet; ``check`` also gets whether it is the same file, only changed."""
        self.path = path
        self._name = str(path)
        self._connect, self._check = connect, check
        self._mine = _Mine()
        self._opened: list[Checkpoint] = []
        self._place = self._look()[:2]

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._opened:
            self._opened.pop().close()

    @contextlib.contextmanager
    def stopped_by(self, stop: Stop) -> Iterator[None]:
        """Let ``stop`` stop the queries of this thread in the block."""
        self._mine.stop = stop
        try:
            yield
        finally:
            self._mine.stop = None
            with contextlib.suppress(QueryStopped):
                stop.watch(None)

    def _own(self) -> Checkpoint:
        """Return this thread's connection to the file that is there now."""
        mine = self._mine
        if mine.db is not None and mine.db.conn.in_transaction:
            return mine.db
        db, looks = mine.db, self._look()
        if db is None or looks != mine.looks:
            # Also the same file: only a new connection surely sees a copy that was written over it.
            db = self._open(mine, looks[:2])
            mine.looks = looks
        if mine.stop is not None:
            mine.stop.watch(db.conn)
        return db

    def _look(self) -> tuple[int, int, int, int]:
        try:
            status = os.stat(self._name)  # noqa: PTH116 - on the way of every request
        except OSError as error:
            raise ArchiveReplaced(f"The checkpoint {self._name!r} has gone.") from error
        return status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns

    def _open(self, mine: _Mine, place: tuple[int, int]) -> Checkpoint:
        before, mine.db = mine.db, None
        if before is not None:
            with contextlib.suppress(ValueError):  # the whole was closed meanwhile
                self._opened.remove(before)
            before.close()
        try:
            db = self._connect(self.path)
            try:
                self._check(db, place == self._place)
            except BaseException:
                db.close()
                raise
        except ArchiveBusy:
            raise
        except ArchiveError as error:
            raise ArchiveReplaced(str(error)) from error
        self._opened.append(db)
        mine.db, self._place = db, place
        mine.opened += 1
        return db

    def execute(self, sql: str, params: Params = ()) -> list[Tuple]:
        """Run one statement and return its rows."""
        return self._own().execute(sql, params)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of many rows of parameters."""
        self._own().execute_many(sql, rows)

    def one(self, sql: str, params: Params = ()) -> Tuple | None:
        """Return the first row of a query, or None."""
        return self._own().one(sql, params)

    def moment(self) -> object:
        """Return a value that changes with every write, also when the files are replaced."""
        own = self._own()
        return self._mine.opened, own.moment()

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds with several queries, all of the same moment."""
        return self._own().together(read)

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Make all writes of the block durable, or none of them."""
        with self._own().atomic():
            yield

    @contextlib.contextmanager
    def in_passing(self) -> Iterator[None]:
        """Write the block at once and without a flush."""
        with self._own().in_passing():
            yield
