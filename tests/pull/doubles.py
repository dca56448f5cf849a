"""A helpdesk in memory, which the tests make lie, and what all tests of a run share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from migrator.archive import Archive
from migrator.errors import NotFound, WrongTicket
from migrator.events import Event
from migrator.pull.fetch import Fetcher
from migrator.pull.options import Fetch, RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.sources.base import (
    Attachment,
    Contents,
    Department,
    Fetched,
    FetchSink,
    Label,
    Ticket,
    TicketStatus,
)
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.source import KayakoSource

S = TypeVar("S", bound=FetchSink)


KINDS = {"page": "pages", "recent": "pages", "list": "lists", "fetch": "fetches"}
"""What each call counts as, where it is none of the others."""


class File(NamedTuple):
    """An attachment of the desk; without ``data`` the helpdesk has lost its bytes."""

    ticket_id: int
    data: bytes | None
    declared: int
    name: str = "file.txt"
    at: int = 0


class Desk(Client):
    """A helpdesk that answers as Kayako does; each crime is a subclass of it.

    ``calls`` tells what was asked: ``page 0+10`` by id, ``recent 0+10`` by activity, ``list 3``,
    ``fetch 7``, ``ticket 3`` and so on; ``witness 3`` for a ticket that is asked for at the very
    beginning, to see whose helpdesk it is, ``beyond 9`` for one above the newest there ever was.
    """

    def __init__(self, tickets: int = 0, files: int = 1) -> None:
        self.rooms = [Department(1, "Support"), Department(2, "Chat", app="livechat")]
        self.tickets: dict[int, Ticket] = {}
        self.files: dict[int, File] = {}
        self.merged: dict[int, int] = {}
        self.calls: list[str] = []
        self.requests: Counter[str] = Counter()
        self.begun = True
        self.newest_id = 0
        for number in range(1, tickets + 1):
            self.open(number)
            for _ in range(files):
                self.attach(number, b"file %d" % (len(self.files) + 1))

    # What people do

    def open(self, number: int, *, department: int = 1, active: int = 1000) -> None:
        """Open a ticket."""
        self.tickets[number] = Ticket(
            number, f"T-{number}", department, 1, created_at=number, last_activity=active
        )

    def attach(self, ticket: int, data: bytes | None, *, declared: int | None = None) -> int:
        """Attach a file and give its id: 1, 2, 3, ..."""
        number = max(self.files, default=0) + 1
        size = len(data or b"") if declared is None else declared
        self.files[number] = File(ticket, data, size)
        return number

    def trash(self, ticket: int) -> None:
        """Move a ticket to the trash."""
        self.tickets[ticket] = replace(self.tickets[ticket], department_id=0)

    def delete(self, ticket: int) -> None:
        """Delete a ticket with its files."""
        self.newest_id = max(self.newest_id, ticket)
        del self.tickets[ticket]
        self.files = {key: one for key, one in self.files.items() if one.ticket_id != ticket}

    def merge(self, old: int, into: int) -> None:
        """Merge a ticket into another one, which keeps its last activity."""
        del self.tickets[old]
        self.merged[old] = into
        for key, one in self.files.items():
            if one.ticket_id == old:
                self.files[key] = one._replace(ticket_id=into)

    # What a run asks

    async def turn(self, call: str) -> None:
        """Note a call; crimes that want a moment between two calls override this."""
        self.calls.append(call)
        self.requests[KINDS.get(call.split(maxsplit=1)[0], "others")] += 1
        await asyncio.sleep(0)

    async def departments(self) -> list[Department]:
        self.begun = False
        await self.turn("departments")
        return self.rooms

    async def statuses(self) -> list[TicketStatus]:
        await self.turn("statuses")
        self.begun = True
        return [TicketStatus(1, "Open"), TicketStatus(3, "Closed", resolved=True)]

    def rows(self, department_ids: Collection[int]) -> list[Ticket]:
        """Give the tickets of a list by id; without a valid department the trash."""
        known = {one.id for one in self.rooms} & set(department_ids) or {0}
        found = [one for one in self.tickets.values() if one.department_id in known]
        return sorted(found, key=lambda one: one.id)

    def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        """Sort a list by last activity, the newest first; those of one second as it comes."""
        return sorted(rows, key=lambda one: -one.last_activity)

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[Ticket]:
        by_id = sort == "ticketid"
        await self.turn(f"{'page' if by_id else 'recent'} {start}+{count}")
        assert list(status_ids) == [1, 3], "a missing status hides tickets"
        rows = self.rows(list(department_ids))
        if not by_id:
            assert (sort, order) == ("lastactivity", "DESC")
            rows = self.newest(rows, count, start)
        return self.page(rows, count, start)

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        """Cut a page out of a list."""
        return rows[start : start + count]

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        await self.turn("count")
        return len(self.rows(department_ids))

    async def labels(self, kind: str) -> list[Label]:
        return []

    async def ticket(self, ticket_id: int) -> Ticket:
        self.newest_id = max(self.newest_id, *self.tickets, *self.merged, 0)
        kind = "beyond" if ticket_id > self.newest_id else "ticket"
        await self.turn(f"{kind if self.begun else 'witness'} {ticket_id}")
        while ticket_id in self.merged:
            ticket_id = self.merged[ticket_id]
        if ticket_id not in self.tickets:
            raise NotFound("Ticket not Found")
        return self.tickets[ticket_id]

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        await self.turn(f"list {ticket_id}")
        if ticket_id not in self.tickets and ticket_id not in self.merged:
            raise NotFound("Ticket not Found")
        return [
            Attachment(key, ticket_id, 1, one.name, one.declared, created_at=one.at)
            for key, one in sorted(self.files.items())
            if one.ticket_id == ticket_id
        ]

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        await self.turn(f"fetch {attachment_id}")
        if ticket_id not in self.tickets and ticket_id not in self.merged:
            raise NotFound("Ticket not Found")
        if (file := self.files.get(attachment_id)) is None:
            raise NotFound("Attachment not Found")
        if file.ticket_id != ticket_id:
            raise WrongTicket("Attachment does not belong to the specified ticket")
        return sent(attachment_id, file, make_sink)

    def asked(self, verb: str) -> list[str]:
        """Give the calls of one kind."""
        return [call for call in self.calls if call.split()[0] == verb]


def sent(
    attachment_id: int,
    file: File,
    make_sink: Callable[[], S],
    notes: tuple[str, ...] = (),
    name_notes: tuple[str, ...] = (),
) -> Fetched[S]:
    """Send a file as Source.fetch does: when a sink refuses, it is aborted."""
    sink, data = make_sink(), file.data or b""
    try:
        if data:
            sink.write(data)
    except BaseException:
        sink.abort()
        raise
    figures = (attachment_id, file.ticket_id, 1, file.name, file.declared)
    row = Attachment(*figures, created_at=file.at, notes=name_notes)
    return Fetched(Contents(row, len(data), bool(data), notes), sink, 1)


class Ear:
    """A listener that remembers, and may do something when it hears an event."""

    def __init__(self, then: Callable[[Event], object] = lambda _: None) -> None:
        self.heard: list[Event] = []
        self._then = then

    def __call__(self, event: Event, /) -> None:
        self.heard.append(event)
        self._then(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """Give the events of one kind."""
        return [event for event in self.heard if isinstance(event, kind)]


def pull(
    source: Desk,
    archive: Archive,
    *,
    fetch: Fetch | None = None,
    ear: Ear | None = None,
    stop: Stop | None = None,
    **options: Any,
) -> RunResult:
    """Do one run; two lists and two fetches at a time unless told otherwise."""
    named = options.pop("source_name", "https://help.example.com")
    how = {name: options.pop(name) for name in ("page_size", "looks") if name in options}
    asked = RunOptions(named, **{"concurrency": 2, **options})
    helpdesk = KayakoSource(source, concurrency=asked.concurrency, **how)

    async def main() -> RunResult:
        fetcher = fetch or Fetcher(helpdesk, archive.blobs, None)
        return await run(helpdesk, archive, fetcher, asked, listener=ear or Ear(), stop=stop)

    return asyncio.run(main())


def states(archive: Archive) -> dict[int, str]:
    """Give the state of every attachment, by id."""
    return {row.id: row.state.value for row in archive.queries.rows()}


def problems(archive: Archive) -> dict[int, str | None]:
    """Give the problem of every attachment, by id."""
    return {row.id: row.problem for row in archive.queries.rows()}


def temporary(archive: Archive) -> list[str]:
    """Give the names of temporary files that were left behind."""
    return [path.name for path in (archive.path / "blobs" / "tmp").iterdir()]
