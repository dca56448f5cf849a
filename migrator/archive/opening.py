"""The archive as a whole, and the four ways to open it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from migrator.archive import checkpoint, lock, schema, soundness
from migrator.archive.access import Access
from migrator.archive.checkpoint import (
    Checkpoint,
    ReadOnlyCheckpoint,
    ServedCheckpoint,
    Stop,
)
from migrator.archive.figures import Figures
from migrator.archive.ledger import Ledger
from migrator.archive.notices import Notices
from migrator.archive.queries import Queries
from migrator.archive.replies import Replies
from migrator.archive.threads import Threads
from migrator.blobs import DryStore, durable, store_of
from migrator.blobs.base import Store
from migrator.errors import ArchiveError, ArchiveMissing, ArchiveUnwritable
from migrator.hours import ANY_TIME


class Archive:
    """Blobs and the checkpoint that describes them.

    Its parts may be used from all threads. With ``read_only`` every write raises ArchiveUnwritable.
    ``hours`` is when requests to its source may be made, as far as who opened it has said.
    """

    def __init__(
        self, path: Path, blobs: Store, db: Checkpoint, run_lock: lock.RunLock | None = None
    ) -> None:
        self.path = path
        self.blobs = blobs
        self.ledger = Ledger(db)
        self.queries = Queries(db)
        self.figures = Figures(db)
        self.threads = Threads(db)
        self.replies = Replies(db)
        self.notices = Notices(db)
        self.access = Access(db)
        self.read_only = isinstance(db, ReadOnlyCheckpoint)
        self.hours = ANY_TIME
        self._db = db
        self._lock = run_lock
        self._served: list[Archive] = []

    def served(self) -> Archive:
        """Return the same archive for a server, to be closed with this one.

        It has a connection for each thread, and follows when the archive is replaced by another
        one of the same helpdesk. Until then, and with another helpdesk's, every method raises
        ArchiveReplaced.
        """
        db = ServedCheckpoint(
            self._db.path,
            ReadOnlyCheckpoint if self.read_only else Checkpoint.connect,
            _SameHelpdesk(self.queries),
        )
        again = Archive(self.path, self.blobs, db)
        again.read_only, again.hours = self.read_only, self.hours
        self._served.append(again)
        return again

    @contextlib.contextmanager
    def stopped_by(self, stop: Stop) -> Iterator[None]:
        """Let ``stop`` stop the queries of this thread in the block; for a served archive."""
        with self._db.stopped_by(stop) if isinstance(self._db, ServedCheckpoint) else _nothing():
            yield

    def see_both_halves(self) -> None:
        """Check cheaply that checkpoint and files are there and belong together.

        Raises ArchiveDamaged.
        """
        soundness.check_both(self.blobs, self._db)

    def copy_checkpoint(self, target: Path) -> None:
        """Write the checkpoint as of one moment to the new file ``target``."""
        self._db.copy_to(target)

    def close(self) -> None:
        """Close the checkpoint and release the lock; harmless when called again."""
        for served in self._served:
            served.close()
        try:
            self._db.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


_nothing = contextlib.nullcontext


class _SameHelpdesk:
    """Checks that a checkpoint is one of the current format, and of the same helpdesk as before."""

    def __init__(self, queries: Queries) -> None:
        self._known = queries.helpdesk()

    def __call__(self, db: Checkpoint, is_same_file: bool) -> None:
        """Raise ArchiveError for another one."""
        if schema.version(db) != schema.VERSION:
            raise ArchiveError(f"{str(db.path)!r} has an older format. Restart the server.")
        found = Queries(db).helpdesk()
        if not is_same_file and self._known and found and found.address != self._known.address:
            raise ArchiveError(
                f"{str(db.path)!r} is now the archive of {found.address!r} and was that of "
                f"{self._known.address!r}. Restart the server if that is meant."
            )
        self._known = found or self._known


def open_archive(
    path: Path, *, command: str, repairing: bool = False, store: Store | None = None
) -> Archive:
    """Open the archive for a run and create missing parts, for the owner alone.

    ``command`` is shown to others who want the archive meanwhile. ``repairing`` creates no
    archive, and opens one whose files are lost. Raises ArchiveBusy when another run holds it,
    ArchiveTooNew, ArchiveUnwritable, ArchiveDamaged, also when half of it is missing; then
    nothing was changed.
    """
    blobs = store or store_of(path)
    if repairing:
        _existing(path, blobs)
    with durable.writing(path):
        if path.exists() and not path.is_dir():
            raise ArchiveUnwritable(f"The archive {str(path)!r} is a file; it must be a directory.")
        durable.make_dirs(path)
        soundness.check_parts(path, blobs)
    with contextlib.ExitStack() as stack:
        held = lock.RunLock(path, command=command)
        stack.callback(held.release)
        db = _created(path, blobs)
        stack.callback(db.close)
        soundness.check_both(blobs, db, repairing=repairing)
        blobs.prepare()
        schema.migrate(db)
        stack.pop_all()
    return Archive(path, blobs, db, held)


def open_beside(path: Path, *, store: Store | None = None) -> Archive:
    """Open an existing archive, even during a run; create nothing.

    Its blobs must not be written. A checkpoint of an older version is migrated first, which needs
    the run lock for a moment. Where nothing can be written, this equals :func:`open_read_only`.
    Raises ArchiveMissing, ArchiveBusy, ArchiveTooNew, ArchiveUnwritable, ArchiveDamaged, also when
    half of it is missing.
    """
    blobs = store or store_of(path)
    file = _existing(path, blobs)
    if not (os.access(path, os.W_OK) and os.access(file, os.W_OK)):
        return open_read_only(path, store=store)
    with contextlib.ExitStack() as stack:
        db = Checkpoint.connect(file)
        stack.callback(db.close)
        soundness.check_both(blobs, db)
        if schema.version(db) != schema.VERSION:
            held = lock.RunLock(path, command="migrate the checkpoint")
            try:
                schema.migrate(db)
            finally:
                held.release()
        stack.pop_all()
    return Archive(path, blobs, db)


def open_read_only(path: Path, *, store: Store | None = None) -> Archive:
    """Open an existing archive without ever writing to it or making a file in it.

    Writes of other processes are seen; this process must not have it open for writing. Raises as
    :func:`open_beside`; ArchiveUnwritable as well for a checkpoint of an older version, which would
    have to be migrated.
    """
    blobs = store or store_of(path)
    db = ReadOnlyCheckpoint(_existing(path, blobs))
    with contextlib.ExitStack() as stack:
        stack.callback(db.close)
        soundness.check_both(blobs, db)
        if schema.version(db) == schema.VERSION:
            stack.pop_all()
            return Archive(path, blobs, db)
    raise ArchiveUnwritable(
        f"The archive {str(path)!r} has an older format and cannot be migrated while "
        "it is read-only. Run `migrator status` once where it is writable."
    )


def open_dry(path: Path, *, store: Store | None = None) -> Archive:
    """Open a copy of the archive at ``path`` for a dry run, which writes nothing there.

    Its ledger is a temporary file that :meth:`Archive.close` removes; its blobs are hashed and
    dropped. There need not be an archive. Raises ArchiveTooNew, ArchiveBusy, ArchiveDamaged, also
    when half of it is missing.
    """
    blobs = DryStore(store or store_of(path))
    with durable.writing(path):
        soundness.check_parts(path, blobs)
    with contextlib.ExitStack() as stack:
        db = _private_copy(path)
        stack.callback(db.close)
        soundness.check_both(blobs, db)
        stack.pop_all()
    return Archive(path, blobs, db)


def _existing(path: Path, blobs: Store) -> Path:
    """Return where the checkpoint is."""
    file = path / checkpoint.NAME
    with durable.writing(path):
        soundness.check_parts(path, blobs)
        there = durable.is_file(file)
        if not there or not file.stat().st_size:
            soundness.check_no_files(blobs)
    if not there:
        raise ArchiveMissing(
            f"There is no archive at {str(path)!r}. Check [archive] path in the "
            "configuration, or make one with `migrator run`."
        )
    return file


def _created(root: Path, blobs: Store) -> Checkpoint:
    """Open the checkpoint; create a missing one with 0600, a mode that SQLite's logs inherit."""
    file = root / checkpoint.NAME
    with durable.writing(root):
        if not file.exists() or not file.stat().st_size:
            soundness.check_no_files(blobs)
        if not file.exists():
            fd = durable.create(file)
            with contextlib.closing(open(fd, "rb")):  # noqa: PTH123 - closes the descriptor
                durable.sync_dir(root)
    return Checkpoint.connect(file)


def _private_copy(root: Path) -> Checkpoint:
    """Return a temporary copy of the checkpoint at ``root``, empty if there is none.

    Nothing at ``root`` is changed or created. Raises ArchiveTooNew, ArchiveDamaged, ArchiveBusy.
    """
    path = root / checkpoint.NAME
    # An empty name makes SQLite use a temporary file, which it removes itself.
    conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    copy = Checkpoint(conn, path)
    try:
        if durable.is_file(path):
            with checkpoint.Border(path), _readable(path) as source:
                source.backup(conn)
        copy.execute("PRAGMA foreign_keys = ON")
        schema.migrate(copy)
    except BaseException:
        copy.close()
        raise
    return copy


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that reads ``path`` and leaves no files beside it.

    A write-ahead log must be read too, but its readers leave files behind. So a file without a
    log is read as immutable; with one, both are copied first. While a run holds the archive, its
    log is live and its files exist already: then it is read in place.
    """
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(lock.kept_free(path.parent)):
            uri = f"{path.absolute().as_uri()}?mode=ro"
        elif checkpoint.log_size(path):
            folder = stack.enter_context(lock.scratch())
            uri = f"{checkpoint.copied(path, folder).as_uri()}?mode=rw"
        else:
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        conn = sqlite3.connect(uri, uri=True, timeout=checkpoint.BUSY_TIMEOUT)
        yield stack.enter_context(contextlib.closing(conn))
