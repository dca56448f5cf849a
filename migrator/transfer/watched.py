"""A source that counts what it is asked, and remembers what it has answered before.

A wrapper: a dry run walks the same path as a run, and knows only by this what it cost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from migrator.kayako.fetching import Fetched, FetchSink
from migrator.kayako.records import Attachment, Department, Ticket, TicketStatus
from migrator.transfer.journal import Journal
from migrator.transfer.meter import Meter
from migrator.transfer.protocols import Source

S = TypeVar("S", bound=FetchSink)


class Watched:
    """Passes every call on to ``source``, but lists that ``journal`` has of an unchanged ticket.

    ``asked`` counts the calls that were passed on: ``pages``, ``lists``, ``fetches`` and
    ``others``. ``lists`` measures those. ``remembered`` counts the lists that were not asked.
    """

    def __init__(self, source: Source, journal: Journal | None = None) -> None:
        self._source = source
        self._journal = journal
        self._activity: dict[int, int] = {}
        self.asked: Counter[str] = Counter()
        self.lists = Meter()
        self.remembered = 0

    async def departments(self) -> list[Department]:
        """List all departments."""
        self.asked["others"] += 1
        return await self._source.departments()

    async def statuses(self) -> list[TicketStatus]:
        """List all ticket statuses."""
        self.asked["others"] += 1
        return await self._source.statuses()

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
        """List tickets in an order, from a row on."""
        self.asked["pages"] += 1
        page = await self._source.tickets_page(
            department_ids, status_ids, count=count, start=start, sort=sort, order=order
        )
        if self._journal is not None:
            self._activity.update((ticket.id, ticket.last_activity) for ticket in page)
        return page

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        """Count tickets; None where the source cannot."""
        self.asked["others"] += 1
        return await self._source.ticket_count(department_ids, status_ids)

    async def ticket(self, ticket_id: int) -> Ticket:
        """Give a ticket, or the one it was merged into."""
        self.asked["others"] += 1
        ticket = await self._source.ticket(ticket_id)
        if self._journal is not None:
            self._activity[ticket.id] = ticket.last_activity
        return ticket

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        """List a ticket's attachments, those of an unchanged ticket from the journal."""
        activity = self._activity.get(ticket_id, 0)
        if self._journal is not None:
            known = self._journal.find(ticket_id, activity)
            if known is not None:
                self.remembered += 1
                return known
        self.asked["lists"] += 1
        started = time.monotonic()
        found = await self._source.attachments(ticket_id)
        self.lists.add(time.monotonic() - started)
        if self._journal is not None:
            self._journal.add(ticket_id, activity, found)
        return found

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment."""
        self.asked["fetches"] += 1
        return await self._source.fetch(ticket_id, attachment_id, make_sink)
