"""The bytes of a blob as the base64 inside a JSON document, in constant memory.

A download is a head (the metadata), the base64 of the file and a tail. The length is known
before the first byte, the file is never in memory as a whole, and the tail is sent only after the
bytes proved to be the stored ones: a damaged file is never a complete answer. A part of a file is
sent only once the whole file was read and found to be the stored one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from typing import Final, TypeVar, TypeVarTuple

import pybase64
from starlette.types import Receive, Send

from migrator.archive.records import Row
from migrator.blobs.base import Blob, Store
from migrator.errors import ArchiveDamaged, ArchiveUnreachable
from migrator.serve.bounds import BLOCK, CHECK, FEW, SMALL
from migrator.serve.refusals import Refusal, as_json, start

_log = logging.getLogger(__name__)

_TAIL: Final = b'"}}'
REMEMBERED: Final = 65_536
"""Verdicts kept."""

_BEGUN: Final = 1024
"""Files of which a part was read."""

_READ: Final = 1 << 20

Args = TypeVarTuple("Args")
K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


class Damaged(Exception):
    """The file is not the stored one; ``started`` says whether the answer had begun."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


class Verdicts:
    """The files that were read in this process, and whether their SHA-256 was right.

    Hashing is the most expensive part of a download, so a file is hashed once and again only when
    its version changes. The oldest verdicts are forgotten beyond ``most``, the oldest unfinished
    hashes beyond some 1,000. Used by any thread; ``clock`` returns seconds that never go back.
    """

    def __init__(
        self, most: int = REMEMBERED, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[Hashable, bool]] = {}
        self._begun: dict[tuple[str, Hashable], Hash] = {}
        self.readers = 0
        """Answers of several blocks that are being sent."""

    def get(self, sha256: str, version: Hashable) -> bool | None:
        """Return the verdict on this version of the file; None when it has to be read."""
        seen = self._seen.get(sha256)
        return seen[1] if seen is not None and seen[0] == version else None

    def put(self, sha256: str, file: Blob, *, whole: bool) -> None:
        """Save a verdict, but none that is good about a file that is still fresh."""
        with self._lock:
            self._begun.pop((sha256, file.version), None)
            self._seen.pop(sha256, None)
            if not (whole and file.fresh):
                _forget_oldest(self._seen, self._most)
                self._seen[sha256] = (file.version, whole)

    def check(self, sha256: str, file: Blob, *, seconds: float = CHECK) -> bool:
        """Return whether a file is the stored one, after reading what nobody has read of it.

        Raises Refusal 503 ``not_checked`` when that takes longer than ``seconds``: the next call
        continues where this one ends. Only one thread reads a file at a time.
        """
        until = self._clock() + seconds
        begun = self._hash_of(sha256, file.version)
        if not begun.lock.acquire(timeout=seconds):
            raise _not_checked(begun.position, file.size)
        try:
            seen = self.get(sha256, file.version)
            while seen is None and (block := file.read(begun.position, _READ)):
                begun.add(block)
                if begun.position < file.size and self._clock() >= until:
                    raise _not_checked(begun.position, file.size)
            if seen is None:
                seen = begun.hexdigest() == sha256 and file.untouched()
                self.put(sha256, file, whole=seen)
            return seen
        finally:
            begun.lock.release()

    def _hash_of(self, sha256: str, version: Hashable) -> Hash:
        with self._lock:
            begun = self._begun.pop((sha256, version), None) or Hash()
            _forget_oldest(self._begun, _BEGUN)
            self._begun[sha256, version] = begun
            return begun


class Hash:
    """The SHA-256 of the first ``position`` bytes of a file."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.position = 0
        self.lock = threading.Lock()

    def add(self, block: bytes) -> None:
        """Hash the next bytes."""
        self._sha256.update(block)
        self.position += len(block)

    def hexdigest(self) -> str:
        """Return the hash so far."""
        return self._sha256.hexdigest()


def _not_checked(read: int, size: int) -> Refusal:
    return Refusal(
        503,
        "not_checked",
        f"The file is read once before a part of it is sent: {read / max(size, 1):.0%} is done. "
        "Try again in a moment.",
        headers=[(b"retry-after", b"1")],
    )


class Content:
    """An open blob, or a span of it, on its way to one client.

    ``size`` and ``sha256`` are what the ledger says. ``span`` is an offset and a length, which
    may both lie beyond the end. The caller closes ``file``.
    """

    def __init__(
        self,
        file: Blob,
        sha256: str,
        size: int,
        verdicts: Verdicts,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._file = file
        self._sha256 = sha256
        self.size = size
        offset, length = span or (0, size)
        self._at = min(offset, size)
        self._end = min(offset + length, size)
        self._verdicts = verdicts
        self._verdict = verdicts.get(sha256, file.version)
        self.is_whole = self._at == 0 and self.ends
        """True when this is all of the file; it is hashed on its way if nobody has read it yet."""
        self._hash = Hash() if self._verdict is None and self.is_whole else None

    @property
    def ends(self) -> bool:
        """True when nothing of the file comes after this content."""
        return self._end == self.size

    @property
    def damaged(self) -> bool:
        """True when the file is known not to be the stored one, without reading it."""
        return self._file.size != self.size or self._verdict is False

    def check(self) -> bool:
        """Return whether the file is the stored one, reading all of it if nobody has yet.

        Raises Refusal as :meth:`Verdicts.check`.
        """
        return not self.damaged and self._verdicts.check(self._sha256, self._file)

    async def send(self, head: bytes, receive: Receive, send: Send) -> None:
        """Send the whole answer: ``head``, made by :func:`head_of`, and the bytes.

        Raises Damaged when the file is not the stored one, before anything is sent for content of
        one block, else before the tail. Returns early when the client has gone.
        """
        length = len(head) + 4 * -(-(self._end - self._at) // 3) + len(_TAIL)
        if self._end - self._at <= BLOCK:
            body = head + await self._encoded(started=False)
            self._conclude(started=False)
            await start(send, 200, length)
            await send({"type": "http.response.body", "body": body + _TAIL})
            return
        await start(send, 200, length)
        await send({"type": "http.response.body", "body": head, "more_body": True})
        self._verdicts.readers += 1
        try:
            await self._send_blocks(receive, send)
        finally:
            self._verdicts.readers -= 1

    async def _send_blocks(self, receive: Receive, send: Send) -> None:
        async with watch(receive) as gone:
            while self._at < self._end and not gone.done():
                block = await self._encoded(started=True)
                await send({"type": "http.response.body", "body": block, "more_body": True})
                del block
                # Waits for a slow client before the next block is made.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                # send() waits for slow clients only; this lets others in beside a fast one.
                await asyncio.sleep(0)
            if self._at == self._end:
                self._conclude(started=True)
                await send({"type": "http.response.body", "body": _TAIL})

    async def _encoded(self, *, started: bool) -> bytes:
        most = BLOCK if not started or self._verdicts.readers <= FEW else SMALL
        size = min(most, self._end - self._at)
        try:
            block = await aside(self._file, self._file.read, self._at, size)
        except ArchiveDamaged as error:
            if isinstance(error, ArchiveUnreachable) and not started:
                raise
            raise Damaged("cannot be read", started=started) from error
        if len(block) != size:
            raise Damaged("ends too early", started=started)
        if self._hash is not None:
            self._hash.add(block)
        elif not self._file.untouched():
            raise Damaged("was changed while it was sent", started=started)
        self._at += size
        return pybase64.b64encode(block)

    def _conclude(self, *, started: bool) -> None:
        if self._hash is None:
            return
        whole = self._hash.hexdigest() == self._sha256
        self._verdicts.put(self._sha256, self._file, whole=whole)
        if not whole:
            raise Damaged("has another SHA-256", started=started)


async def aside(where: Blob | Store, read: Callable[[*Args], T], *args: *Args) -> T:
    """Return what ``read`` returns; called in a thread where that may wait for a network."""
    return await asyncio.to_thread(read, *args) if where.waits else read(*args)


def head_of(metadata: Mapping[str, object]) -> bytes:
    """Return the answer with ``metadata`` up to the base64."""
    document = {"ok": True, "data": {**metadata, "content_base64": ""}}
    return as_json(document).encode("ascii")[: -len(_TAIL)]


def opened(blobs: Store, row: Row) -> Blob:
    """Open the stored file of an attachment; raises Refusal when it is lost or cannot be read."""
    with readable(row):
        file = blobs.open(row.sha256) if row.sha256 else None
    if file is None:
        raise file_missing(row, "is not in the archive")
    return file


@contextlib.contextmanager
def readable(row: Row) -> Iterator[None]:
    """Raise Refusal where the file of an attachment cannot be read in the block."""
    try:
        yield
    except ArchiveUnreachable:
        raise  # which says nothing about the file
    except ArchiveDamaged as error:
        raise file_missing(row, "cannot be read") from error


def file_missing(row: Row, what: str) -> Refusal:
    """Return the refusal for a file that is lost or damaged, after logging ``what`` is wrong.

    The file name stays out of the log: it is the sender's text.
    """
    _log.warning(
        "The file of attachment %d (blob %s) %s and was not served: run 'migrator verify --repair'",
        row.id,
        row.sha256,
        what,
    )
    return Refusal(404, "not_found", "The stored file of this attachment is missing.")


@contextlib.asynccontextmanager
async def watch(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task that is done once the client has closed its connection."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(until_gone())
    try:
        yield task
    finally:
        task.cancel()  # it ends in the next turn of the loop


def _forget_oldest(kept: dict[K, V], most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
