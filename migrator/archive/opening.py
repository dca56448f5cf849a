"""The archive as a whole, and the four ways to open it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from migrator.archive import checkpoint, dry, halves, schema
from migrator.archive.access import Access
from migrator.archive.checkpoint import Checkpoint
from migrator.archive.figures import Figures
from migrator.archive.ledger import Ledger
from migrator.archive.lock import RunLock
from migrator.archive.queries import Queries
from migrator.archive.readonly import ReadOnlyCheckpoint
from migrator.archive.threads import Threads
from migrator.blobs import durable
from migrator.blobs.local import BlobStore
from migrator.errors import ArchiveMissing, ArchiveUnwritable


class Archive:
    """What we keep: blobs and the checkpoint that knows what they are.

    Its parts may be used from all threads. With ``read_only`` whatever would write raises
    ArchiveUnwritable.
    """

    def __init__(
        self, path: Path, blobs: BlobStore, db: Checkpoint, lock: RunLock | None = None
    ) -> None:
        self.path = path
        self.blobs = blobs
        self.ledger = Ledger(db)
        self.queries = Queries(db)
        self.figures = Figures(db)
        self.threads = Threads(db)
        self.access = Access(db)
        self.read_only = isinstance(db, ReadOnlyCheckpoint)
        self._db = db
        self._lock = lock

    def see_both_halves(self) -> None:
        """See that checkpoint and files are there and belong together, at a small price.

        Raises ArchiveDamaged.
        """
        halves.see_both(self.blobs, self._db)

    def close(self) -> None:
        """Close the checkpoint and give the lock back; harmless when called again."""
        try:
            self._db.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def open_archive(path: Path, *, command: str, repairing: bool = False) -> Archive:
    """Open the archive for a run, and create what is missing of it, for the owner alone.

    ``command`` is told to others who want the archive meanwhile. ``repairing`` creates no
    archive, and opens one whose files are lost. Raises ArchiveBusy when another run holds it,
    ArchiveTooNew, ArchiveUnwritable, ArchiveDamaged, also when half of it is missing; then
    nothing was changed.
    """
    blobs = BlobStore(path)
    if repairing:
        _existing(path, blobs)
    with durable.writing(path):
        if path.exists() and not path.is_dir():
            raise ArchiveUnwritable(f"The archive {str(path)!r} is a file; it must be a directory.")
        durable.make_dirs(path)
        halves.see_parts(path)
    with contextlib.ExitStack() as stack:
        lock = RunLock(path, command=command)
        stack.callback(lock.release)
        db = _created(path, blobs)
        stack.callback(db.close)
        halves.see_both(blobs, db, repairing=repairing)
        blobs.prepare()
        schema.migrate(db)
        stack.pop_all()
    return Archive(path, blobs, db, lock)


def open_beside(path: Path) -> Archive:
    """Open an existing archive beside a run that may be going on; creates nothing.

    Its blobs are to be read only. A checkpoint of an older version is migrated first, which
    needs the run lock for a moment. Where nothing can be written, it is as good as
    :func:`open_read_only`. Raises ArchiveMissing, ArchiveBusy, ArchiveTooNew, ArchiveUnwritable,
    ArchiveDamaged, also when half of it is missing.
    """
    blobs = BlobStore(path)
    file = _existing(path, blobs)
    if not (os.access(path, os.W_OK) and os.access(file, os.W_OK)):
        return open_read_only(path)
    db = Checkpoint.connect(file)
    try:
        halves.see_both(blobs, db)
        if schema.version(db) != schema.VERSION:
            lock = RunLock(path, command="migrate the checkpoint")
            try:
                schema.migrate(db)
            finally:
                lock.release()
    except BaseException:
        db.close()
        raise
    return Archive(path, blobs, db)


def open_read_only(path: Path) -> Archive:
    """Open an existing archive without ever writing to it or making a file in it.

    What other processes write meanwhile is seen; this one must not have it open for writing.
    Raises as :func:`open_beside`; ArchiveUnwritable as well
    for a checkpoint of an older version, which would have to be migrated.
    """
    blobs = BlobStore(path)
    db = ReadOnlyCheckpoint(_existing(path, blobs))
    with contextlib.ExitStack() as stack:
        stack.callback(db.close)
        halves.see_both(blobs, db)
        if schema.version(db) == schema.VERSION:
            stack.pop_all()
            return Archive(path, blobs, db)
    raise ArchiveUnwritable(
        f"The archive {str(path)!r} is of an older format and cannot be brought up to date while "
        "it is read-only. Run `migrator status` once where it is writable."
    )


def open_dry(path: Path) -> Archive:
    """Open a twin that knows what the archive at ``path`` knows and writes nothing there.

    Its ledger lives in a temporary file of its own and forgets all on :meth:`Archive.close`; its
    blobs are hashed and dropped. There need not be an archive. Raises ArchiveTooNew, ArchiveBusy,
    ArchiveDamaged, also when half of it is missing.
    """
    with durable.writing(path):
        halves.see_parts(path)
    blobs = dry.DryBlobStore(path)
    db = dry.private_copy(path)
    try:
        halves.see_both(blobs, db)
    except BaseException:
        db.close()
        raise
    return Archive(path, blobs, db)


def _existing(path: Path, blobs: BlobStore) -> Path:
    """Return where the checkpoint is."""
    file = path / checkpoint.NAME
    with durable.writing(path):
        halves.see_parts(path)
        there = durable.is_file(file)
        if not there or not file.stat().st_size:
            halves.see_no_files(blobs)
    if not there:
        raise ArchiveMissing(
            f"There is no archive at {str(path)!r}. Check [archive] path in the "
            "configuration, or make one with `migrator run`."
        )
    return file


def _created(root: Path, blobs: BlobStore) -> Checkpoint:
    """Open the checkpoint; make an empty one first, 0600, a mode that SQLite's logs inherit."""
    file = root / checkpoint.NAME
    with durable.writing(root):
        if not file.exists() or not file.stat().st_size:
            halves.see_no_files(blobs)
        if not file.exists():
            fd = durable.create(file)
            with contextlib.closing(open(fd, "rb")):  # noqa: PTH123 - closes the descriptor
                durable.sync_dir(root)
    return Checkpoint.connect(file)
