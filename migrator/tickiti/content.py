"""The bytes of a blob as the base64 inside a JSON document, in constant memory.

A download is a head (the metadata), the base64 of the file and a tail. The length is known
before the first byte, the file never is in memory as a whole, and the tail is sent only when
the bytes were seen to be the ones that were stored: a damaged file is never a complete answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO, Final

import pybase64
from starlette.types import Receive, Send

from migrator.tickiti.envelope import start

BLOCK: Final = 48 * 1024
"""Raw bytes per message: 64 KiB as base64, which malloc serves from its heap, and a multiple
of three, so that the pieces concatenate. Larger blocks halve the throughput."""

_TAIL: Final = b'"}}'
_REMEMBERED: Final = 65_536

Fingerprint = tuple[int, int, int, int]
"""Device, inode, time of the last change in nanoseconds and size of a file."""


class Damaged(Exception):
    """The file is not the one that was stored; ``started`` tells whether the answer had begun."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


class Verdicts:
    """Which files were read in this process, and whether their SHA-256 was right.

    Hashing is the dearest part of a download, so a file is hashed once and again only when its
    fingerprint changes. The oldest verdicts are forgotten beyond some 65,000.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Fingerprint, bool]] = {}

    def get(self, sha256: str, fingerprint: Fingerprint) -> bool | None:
        """Return the verdict on this very file; None when it has to be read."""
        seen = self._seen.get(sha256)
        return seen[1] if seen is not None and seen[0] == fingerprint else None

    def put(self, sha256: str, fingerprint: Fingerprint, *, whole: bool) -> None:
        """Remember a verdict."""
        self._seen.pop(sha256, None)
        if len(self._seen) >= _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[sha256] = (fingerprint, whole)


class Content:
    """An open blob on its way to one client.

    ``size`` and ``sha256`` are what the ledger says. The caller closes ``file``.
    """

    def __init__(self, file: BinaryIO, sha256: str, size: int, verdicts: Verdicts) -> None:
        stat = os.fstat(file.fileno())
        self._file = file
        self._sha256 = sha256
        self.size = size
        self._verdicts = verdicts
        self._fingerprint = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        self._verdict = verdicts.get(sha256, self._fingerprint)
        self._hash = hashlib.sha256()

    @property
    def damaged(self) -> bool:
        """True when the file is known not to be the one that was stored, without reading it."""
        return self._fingerprint[3] != self.size or self._verdict is False

    async def send(self, metadata: Mapping[str, object], receive: Receive, send: Send) -> None:
        """Send the whole answer: ``metadata`` and the bytes as ``content_base64``.

        Raises Damaged when the file turns out to be another one, before anything is sent for a
        file of one block, else before the tail. Returns early when the client has gone.
        """
        head = _head(metadata)
        length = len(head) + 4 * -(-self.size // 3) + len(_TAIL)
        if self.size <= BLOCK:
            body = head + self._encoded(self.size, started=False)
            self._conclude(started=False)
            await start(send, 200, length)
            await send({"type": "http.response.body", "body": body + _TAIL})
            return
        await start(send, 200, length)
        await send({"type": "http.response.body", "body": head, "more_body": True})
        async with _watch(receive) as gone:
            left = self.size
            while left and not gone.done():
                block = self._encoded(min(BLOCK, left), started=True)
                await send({"type": "http.response.body", "body": block, "more_body": True})
                left -= min(BLOCK, left)
                # send() waits for slow clients only; this lets others in beside a fast one.
                await asyncio.sleep(0)
            if not left:
                self._conclude(started=True)
                await send({"type": "http.response.body", "body": _TAIL})

    def _encoded(self, size: int, *, started: bool) -> bytes:
        block = self._file.read(size)
        if len(block) != size:
            raise Damaged("ends too early", started=started)
        if self._verdict is None:
            self._hash.update(block)
        return pybase64.b64encode(block)

    def _conclude(self, *, started: bool) -> None:
        if self._verdict is not None:
            return
        whole = self._hash.hexdigest() == self._sha256
        self._verdicts.put(self._sha256, self._fingerprint, whole=whole)
        if not whole:
            raise Damaged("has another SHA-256", started=started)


def _head(metadata: Mapping[str, object]) -> bytes:
    document = {"ok": True, "data": {**metadata, "content_base64": ""}}
    return json.dumps(document).encode("ascii")[: -len(_TAIL)]


@contextlib.asynccontextmanager
async def _watch(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task that is done once the client has closed its connection."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(until_gone())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
