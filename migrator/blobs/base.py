"""The contract of a store: bytes by their SHA-256, each content once.

A store is one module of this room with a :class:`Store`, a :class:`Blob` and a :class:`Writer` of
its own; ``tests/blobs/conformance.py`` holds any of them to what is promised here. Nobody outside
of that module knows where its bytes are: names and ``where`` are for people to read.

Errors of the medium end in the store. Reading raises ArchiveDamaged, writing ArchiveUnwritable. A
store that as a whole cannot be asked raises ArchiveUnreachable: it judges no blob.
A blob is asked for by 64 lower-case hex digits; anything else raises ValueError.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from migrator.blobs import durable, mime
from migrator.errors import ArchiveDamaged

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is durable under its name.

    ``deduped`` is True when an equal blob was already there and was checked to be whole.
    """

    sha256: str
    size: int
    mime_type: str
    deduped: bool


class Verdict(enum.StrEnum):
    """The result of reading a blob again."""

    OK = "ok"
    DAMAGED = "damaged"
    """There is something of that name, but with other bytes."""
    LOST = "lost"
    """There is nothing of that name."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The result of reading a blob again.

    ``reason`` says why there are no bytes to compare: why it could not be read. It begins
    with "it".
    """

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a store; ``name`` shows people where.

    ``kind`` is None for what the store would not have put there, ``sha256`` is given for blobs,
    ``size`` is None where it was not looked up.
    """

    name: str
    kind: Literal["blob", "temporary"] | None
    sha256: str = ""
    size: int | None = None


class Blob(ABC):
    """A blob that is open for reading, by one thread at a time; a context manager.

    ``size`` is in bytes. ``version`` differs for other bytes: what is known about one version
    holds for all that is read of it, unless it is ``fresh``: a change that follows at once may
    leave a fresh version as it is.
    """

    size: int
    version: Hashable
    fresh: bool = False
    waits: bool = False
    """Reading may wait for a network: an event loop needs a thread for it."""

    @abstractmethod
    def read(self, offset: int, length: int, /) -> bytes:
        """Return ``length`` bytes from ``offset`` on; fewer only at the end of the blob."""

    @abstractmethod
    def close(self) -> None:
        """Close it; harmless when called again."""

    def untouched(self) -> bool:
        """Return whether the bytes are still those of ``version``; False once one was written."""
        return True

    def blocks(self) -> Iterator[bytes]:
        """Yield all bytes, a MiB at a time."""
        at = 0
        while block := self.read(at, _BLOCK):
            yield block
            at += len(block)

    def __enter__(self) -> Self:
        """Return the blob itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class Writer(ABC):
    """A sink whose bytes become a blob when, and only when, :meth:`commit` returns.

    Used by one thread at a time, not always the same one. As a context manager it aborts unless
    it was committed. A store fills in :meth:`append`, :meth:`keep` and :meth:`drop`.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._ended = False
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Write the next bytes.

        Raises ArchiveUnwritable; the writer is aborted then.
        """
        self._see_open()
        self._hash.update(data)
        self.size += len(data)
        if len(self._head) < mime.HEAD:
            self._head += data[: mime.HEAD - len(self._head)]
        try:
            self.append(data)
        except BaseException:
            self.abort()
            raise

    def commit(self, mime_type: str = "") -> StoredBlob:
        """Make the blob durable under its name, or find that it is there already.

        ``mime_type`` is its type where that is known: telling it takes as long as writing it.
        A blob that is already there counts only after it was read again and found whole
        (once per process); a damaged one is replaced. Raises ArchiveUnwritable.
        """
        self._see_open()
        try:
            mime_type = mime_type or mime.detect(bytes(self._head), self.reopen)
            new = self.keep(self.sha256, self.size)
        finally:
            self.abort()
        return StoredBlob(self.sha256, self.size, mime_type, not new)

    def abort(self) -> None:
        """Drop the bytes; harmless when called again or after commit."""
        if not self._ended:
            self._ended = True
            self.drop()

    @abstractmethod
    def append(self, data: bytes, /) -> None:
        """Write bytes to a temporary place."""

    def reopen(self) -> int | None:
        """Return a descriptor for reading all that was added, None where there is no such file.

        Nothing is added any more. The caller closes it.
        """
        return None

    @abstractmethod
    def keep(self, sha256: str, size: int, /) -> bool:
        """Make all that was added a durable blob; False when a whole one is there already."""

    @abstractmethod
    def drop(self) -> None:
        """Free what the writer holds, and the bytes unless they were kept; never raises."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Abort unless committed."""
        self.abort()

    def _see_open(self) -> None:
        if self._ended:
            raise ValueError("the blob was already committed or aborted")


class Store(Protocol):
    """The blobs of one archive; ``where`` names the place. All threads may use it.

    ``if_bare`` says what to look at when none of the blobs is there. With ``waits`` every method
    may wait for a network.
    """

    where: str
    if_bare: str
    waits: bool = False

    def prepare(self) -> None:
        """Make the place ready for new blobs; only the holder of the run lock may.

        What a killed run left there stays until somebody removes it.
        """

    def missing(self) -> list[str]:
        """Return the places that :meth:`prepare` would have to create, the outermost first.

        Raises ArchiveDamaged when something else is in the way.
        """

    def writer(self) -> Writer:
        """Return a sink for the bytes of one new blob."""

    def open(self, sha256: str, /) -> Blob | None:
        """Open a blob for reading; None if there is none."""

    def size(self, sha256: str, /) -> int | None:
        """Return the size of a blob in bytes; None if there is none."""
        blob = self.open(sha256)
        if blob is None:
            return None
        with blob:
            return blob.size

    def has(self, sha256: str, /) -> bool:
        """Return cheaply whether anything has a blob's name.

        What cannot be checked counts as there, unless it is certain that nothing is.
        """

    def blocked(self, sha256: str, /) -> str | None:
        """Return what keeps a blob from being written under its name, or None."""

    def examine(self, sha256: str, size: int, /) -> Examined:
        """Read a whole blob and return whether it is ``size`` bytes with that SHA-256.

        Anything else in its place is a verdict, not an error. Raises ArchiveUnreachable.
        """

    def scan(self, unreadable: Callable[[str, str], None] | None = None, /) -> Iterator[Entry]:
        """Yield everything in the store, of any kind, in a stable order.

        ``unreadable`` is called with the name of every part that cannot be listed, and why;
        without it, such a part raises ArchiveDamaged.
        """

    def entry(self, name: str, /) -> Entry | None:
        """Return the entry of that name with its size; None unless the store could remove it."""

    def remove(self, name: str, /) -> int:
        """Remove the entry of that name and return how many bytes it was.

        Only the holder of the run lock may, after it saw that no row refers to the blob: nobody
        else writes blobs, or rows that refer to them, so that nothing can change between looking
        and removing. Raises ValueError for what this store would not have made.
        """

    def copy_out(
        self,
        sha256: str,
        size: int,
        target: Path,
        *,
        temp: Path,
        link: bool = True,  # noqa: ARG002 - for stores that can
        stopped: Callable[[], None] = lambda: None,
    ) -> Examined:
        """Write the bytes of a blob to a user's new file ``target``.

        The bytes are read and hashed first: any result but OK means that there are no good ones and
        no file. It is read-only, for its owner alone, and durable once its directory is. ``temp``
        is a name on the same file system for the file while it is being written. With ``link`` a
        store may let both share their bytes. ``stopped`` is called between blocks; it may raise.
        Raises OSError where ``target`` cannot be written.
        """
        with contextlib.suppress(ArchiveDamaged), contextlib.ExitStack() as stack:
            blob = self.open(sha256)
            if blob is not None:
                told = _told(stack.enter_context(blob), stopped)
                if blob.size == size and durable.copy(told, target, sha256, temp=temp):
                    return Examined(Verdict.OK)
        found = self.examine(sha256, size)
        # The bytes that were read were wrong, even if they are right now.
        return Examined(Verdict.DAMAGED) if found.verdict is Verdict.OK else found


def _told(blob: Blob, stopped: Callable[[], None]) -> Iterator[bytes]:
    for block in blob.blocks():
        stopped()
        yield block
