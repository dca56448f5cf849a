"""The source's own words: replies kept as they came, so that nothing in them is ever lost."""

from __future__ import annotations

import time
import zlib
from concurrent.futures import Executor

from migrator.archive.records import Reply
from migrator.blobs.base import Store, StoredBlob, Writer
from migrator.sources.base import in_pool

SMALL = 1 << 16
"""Bytes of a reply that are held in memory; more of it goes into the store as it comes."""
_LEVEL = 6
_GZIP = zlib.MAX_WBITS | 16
"""Of gzip, with a head that names no file and no time: equal replies are equal blobs."""


class ReplyCopy:
    """A copy of a reply that becomes a blob, compressed as it comes; a sink of a source.

    Used by one thread at a time. As a context manager it drops what was not committed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writer: Writer | None = None
        self.begin()

    def begin(self) -> None:
        """Begin anew with another reply; what was written of the one before is dropped."""
        self.abort()
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._held: list[bytes] = []
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Take the next bytes; raises ArchiveUnwritable."""
        self.size += len(data)
        self._held.append(data)
        if self.size > SMALL:
            self._pack()

    def finish(self) -> Writer:
        """Return the writer with the whole reply, which is its caller's to commit or to abort."""
        writer = self._pack()
        writer.write(self._packer.flush())
        self._writer = None
        return writer

    async def kept(self, pool: Executor | None, ticket_id: int, kind: str) -> Reply | None:
        """Make the reply durable, and return what the archive may say of it; None for no reply.

        Raises ArchiveUnwritable.
        """
        if not self.size:
            return None
        blob = await in_pool(pool, self._commit)
        return Reply(ticket_id, kind, blob.sha256, blob.size, self.size, int(time.time()))

    def _commit(self) -> StoredBlob:
        with self.finish() as writer:
            return writer.commit("application/gzip")

    def abort(self) -> None:
        """Drop the copy; harmless when called again."""
        if self._writer is not None:
            self._writer.abort()
        self._writer, self.size = None, 0

    def _pack(self) -> Writer:
        if self._writer is None:
            self._writer = self._store.writer()
        for data in self._held:
            if packed := self._packer.compress(data):
                self._writer.write(packed)
        self._held = []
        return self._writer

    def __enter__(self) -> ReplyCopy:
        """Return the copy itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what was not committed."""
        self.abort()
