"""The archive that writes nothing: same types, same methods, so a dry run walks the same path."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from migrator.archive import checkpoint, lock, readonly, schema
from migrator.archive.checkpoint import Checkpoint
from migrator.archive.records import StoredBlob
from migrator.blobs import durable, mime
from migrator.blobs.local import BlobStore, BlobWriter


class DryBlobStore(BlobStore):
    """Reads the real blobs, hashes new ones and drops them."""

    def prepare(self) -> None:
        """Create nothing."""

    def remove(self, path: Path) -> int:  # noqa: ARG002 - the real one needs it
        """Remove nothing."""
        return 0

    def writer(self) -> BlobWriter:
        """Return a sink that hashes."""
        return _DryWriter(self)


class _DryWriter(BlobWriter):
    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._done = False
        self.size = 0

    def write(self, data: bytes, /) -> None:
        self._alive()
        self._count(data)

    def commit(self) -> StoredBlob:
        self._alive()
        self._done = True
        deduped = self._store.size(self.sha256) == self.size
        return StoredBlob(self.sha256, self.size, mime.detect(bytes(self._head)), deduped)

    def abort(self) -> None:
        self._done = True

    def _alive(self) -> None:
        if self._done:
            raise ValueError("the blob was already committed or aborted")


def private_copy(root: Path) -> Checkpoint:
    """Return a checkpoint of our own with all that the one at ``root`` says, if there is one.

    Nothing at ``root`` is changed or created. Raises ArchiveTooNew, ArchiveDamaged, ArchiveBusy.
    """
    path = root / checkpoint.NAME
    # An empty name is SQLite's own temporary file, which it removes by itself.
    conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    copy = Checkpoint(conn, path)
    try:
        if durable.is_file(path):
            with copy.border, _readable(path) as source:
                source.backup(conn)
        copy.execute("PRAGMA foreign_keys = ON")
        schema.migrate(copy)
    except BaseException:
        copy.close()
        raise
    return copy


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that reads ``path`` and leaves no trace beside it.

    A write-ahead log must be read too, but a reader of one leaves files behind: so without a
    log the file is read as immutable, with one both are copied away first. While a run holds the
    archive its log is live and its files are there already: then we read beside it.
    """
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(_quiet(path.parent)):
            uri = f"{path.absolute().as_uri()}?mode=ro"
        elif readonly.log_size(path):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="migrator-")))
            uri = f"{readonly.copied(path, folder).as_uri()}?mode=rw"
        else:
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        conn = sqlite3.connect(uri, uri=True, timeout=checkpoint.BUSY_TIMEOUT)
        yield stack.enter_context(contextlib.closing(conn))


@contextlib.contextmanager
def _quiet(root: Path) -> Iterator[bool]:
    """Keep runs away while the block lasts; yield False when one holds the archive already."""
    try:
        fd = durable.open_file(root / lock.NAME)
    except OSError:  # no run ever was here, or we may not ask: nobody to keep away
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        quiet = True
    except OSError:
        quiet = False
    try:
        yield quiet
    finally:
        os.close(fd)
