"""What the pipeline needs from its neighbours, and the law each of them obeys.

The steps of a run are written against these Protocols. The real rooms satisfy them, and so do
wrappers with the same shape: the dry archive that writes nothing, the sources of the tests that
fail on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from migrator.archive.records import (
    Department,
    Examined,
    Helpdesk,
    Listed,
    Mark,
    Outcome,
    PostRow,
    Recorded,
    Row,
    RunInfo,
    State,
    StatusRow,
    StoredBlob,
    TicketRow,
    Witness,
    Work,
)
from migrator.report import verdict
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


class Ledger(verdict.Rows, Protocol):
    """The rows of the archive. Writing methods are called inside ``atomic`` by one thread."""

    def atomic(self) -> AbstractContextManager[None]:
        """All or nothing; nested blocks fail alone."""

    def whole(self) -> AbstractContextManager[None]:
        """All or nothing, whatever fails inside; must not be nested."""

    def begin_run(self, kind: str, *, source: str, scope: Mapping[str, object]) -> RunInfo:
        """Open a run."""

    def finish_run(self, run_id: int, *, exit_code: int, summary: Mapping[str, object]) -> None:
        """Close a run."""

    def unfinished_run(self) -> RunInfo | None:
        """Give the newest run if it never came to its end."""

    def run(self, run_id: int, /) -> RunInfo | None:
        """Give one run."""

    def mark(self, name: str, /) -> Mark | None:
        """Tell how far the syncs have come."""

    def set_mark(self, name: str, value: int, *, run_id: int) -> None:
        """Note how far a run has come."""

    def put_departments(self, departments: Sequence[Department]) -> None:
        """Write the departments."""

    def record_ticket(
        self,
        run_id: int,
        ticket: TicketRow,
        listed: Sequence[Listed],
        *,
        recheck: bool = False,
        follow: bool = False,
    ) -> Recorded:
        """Write one ticket's list; gives what of it wants fetching, and what is odd about it."""

    def settle(self, outcome: Outcome) -> State:
        """Write what became of one attachment; gives its state, which never falls below stored."""

    def put_ticket(self, ticket: TicketRow) -> None:
        """Write one ticket without its attachments."""

    def mark_merged(self, old_ticket_id: int, into_ticket_id: int) -> None:
        """Note that a ticket lives on in another one."""

    def mark_ticket_deleted(self, ticket_id: int) -> None:
        """Note that the source has no such ticket any more."""

    def unmet(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[int]:
        """Give tickets, by id, that this run has not listed and that should be somewhere."""

    def not_listed_in(self, run_id: int, /) -> list[int]:
        """Return tickets that a run has not listed, merged and deleted ones too."""

    def leftovers(
        self,
        run_id: int,
        *,
        now: int | None = None,
        after: int = 0,
        limit: int = 500,
        recheck: bool = False,
    ) -> list[Work]:
        """Give unfinished attachments that no list of this run named, by id, if due at ``now``."""

    def count_unseen(self, run_id: int) -> tuple[int, int]:
        """Count stored attachments that no list of this run named, and all stored ones."""

    def unseen(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[Work]:
        """Give those stored attachments, by id."""

    def mark_deleted(self, attachment_id: int, detail: str) -> bool:
        """Note that the source deleted what we hold; False when it is not held."""

    def listed_in(self, run_id: int, /) -> Iterator[Row]:
        """Give what a run has listed, by attachment id."""

    def with_files(self, ticket_ids: Collection[int], /) -> dict[int, int]:
        """Count the attachments of a few tickets; those without are left out."""

    def expected_blobs(self) -> Iterator[tuple[str, int]]:
        """Give hash and size of every blob that a row refers to."""

    def unique_bytes(self) -> tuple[int, int]:
        """Count the blobs that rows refer to, and their bytes."""

    def refers_to(self, sha256: str, /) -> bool:
        """Tell whether any row refers to a blob."""

    def referred(self, hashes: Collection[str], /) -> set[str]:
        """Return those of some hashes that any row names, whatever the indexes say."""

    def unused_blobs(self) -> int:
        """Count the known blobs that no attachment has."""

    def self_check(self) -> None:
        """See that the checkpoint is sound; raises ArchiveDamaged."""

    def attachments_of_blob(self, sha256: str, /) -> list[Work]:
        """Give the attachments that share a blob."""


class Threads(Protocol):
    """What people wrote. Writing methods are called inside ``Ledger.atomic`` by one thread."""

    def put_statuses(self, statuses: Iterable[StatusRow], /) -> None:
        """Write the ticket statuses."""

    def put(
        self, run_id: int, ticket: TicketRow, posts: Sequence[PostRow], *, activity: int | None
    ) -> None:
        """Write a ticket's header and posts, read for that last activity."""

    def skip(self, run_id: int, ticket_id: int, *, activity: int) -> None:
        """Note that there are no posts to read for that last activity."""

    def unread(self, *, after: int, limit: int) -> list[tuple[int, int]]:
        """Give tickets, by id, whose posts are to be read, with their last activity."""

    def unread_activity(self, ticket_id: int, /) -> int | None:
        """Give the last activity for which a ticket's posts are to be read; None if they were."""

    def count_unread(self) -> int:
        """Count the tickets whose posts are to be read."""


class Proof(verdict.Facts, Protocol):
    """What may be believed of the archive. Writing methods are called by one thread at a time."""

    def put_progress(self, run_id: int, facts: Mapping[str, object]) -> None:
        """Write down how far a run is."""

    def helpdesk(self) -> Helpdesk | None:
        """Return the helpdesk of the archive; None before the first run."""

    def set_helpdesk(self, address: str, *, run_id: int | None) -> None:
        """Write it down."""

    def witnesses(self, limit: int, /) -> list[Witness]:
        """Return tickets by which the helpdesk can be told, those to ask first at the front."""

    def sources(self) -> list[str]:
        """Return the addresses of all runs that listed something, the latest first."""


class Archive(Protocol):
    """What we keep."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def proof(self) -> Proof:
        """What may be believed of it."""

    @property
    def blobs(self) -> Blobs:
        """The bytes."""

    @property
    def ledger(self) -> Ledger:
        """The rows."""

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
