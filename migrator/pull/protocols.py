"""What the pipeline needs from its neighbours, and the law each of them obeys.

The steps of a run are written against these Protocols. The real rooms satisfy them, and so do
wrappers with the same shape: the dry archive that writes nothing, the sources of the tests that
fail on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from migrator.archive.ledger import Ledger
from migrator.archive.queries import Queries
from migrator.archive.records import Examined, StoredBlob
from migrator.archive.threads import Threads
from migrator.sources import base as kayako
from migrator.sources.base import Fetched, FetchSink

S = TypeVar("S", bound=FetchSink)


class Writer(Protocol):
    """Takes the bytes of one attachment.

    Nothing of them can be seen in the archive before ``commit`` returned; ``abort`` after
    ``commit`` does nothing.
    """

    def write(self, data: bytes, /) -> None:
        """Take the next bytes; raises ArchiveUnwritable."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Hash of the bytes so far, in hexadecimal."""

    def commit(self) -> StoredBlob:
        """Make the blob durable; when this returns, a power cut cannot take it away."""

    def abort(self) -> None:
        """Drop what was written."""


class Blobs(Protocol):
    """The bytes of the archive."""

    def writer(self) -> Writer:
        """Start a blob."""

    def examine(self, sha256: str, size: int, /) -> Examined:
        """Read a blob again, whole, and tell whether it is what its name says; never raises."""

    def blocked(self, sha256: str, /) -> str | None:
        """Tell what keeps a blob from being written under its name."""

    def scan(self, unreadable: Callable[[Path, str], None], /) -> Iterator[Path]:
        """Give every file in the blob store, and tell of directories that cannot be listed."""

    def kind(self, path: Path, /) -> str | None:
        """Tell a blob from a temporary file by its name and place; None for a stranger's file."""

    def remove(self, path: Path, /) -> int:
        """Remove a file of the store that no row refers to, and give its size."""


class Archive(Protocol):
    """What we keep."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def blobs(self) -> Blobs:
        """The bytes."""

    @property
    def ledger(self) -> Ledger:
        """Writes the rows."""

    @property
    def queries(self) -> Queries:
        """Reads the rows."""

    @property
    def threads(self) -> Threads:
        """What people wrote."""


class Source(Protocol):
    """The helpdesk that we leave. Every call raises SourceError when it did not answer."""

    async def departments(self) -> list[kayako.Department]:
        """List all departments."""

    async def statuses(self) -> list[kayako.TicketStatus]:
        """List all ticket statuses."""

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[kayako.Ticket]:
        """List tickets in an order, from a row on."""

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        """Count tickets; None where the source cannot."""

    async def ticket(self, ticket_id: int) -> kayako.Ticket:
        """Give a ticket, or the one it was merged into."""

    async def attachments(self, ticket_id: int) -> list[kayako.Attachment]:
        """List a ticket's attachments."""

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment; the sink of a failed try was aborted."""
