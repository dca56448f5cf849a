"""The fast look at a helpdesk: only at the tickets that it marks as having attachments.

Kayako shows that mark nowhere, but it sorts by it. So the tickets with files are brought to the
front, the place where they end is found by halving, and what lies behind it is passed over. The
mark may lie both ways, and rows of one mark have no order among themselves; so the walk goes on
behind that place until a row of tickets has nothing, and looks at some tickets further down.
"""

from __future__ import annotations

from migrator.errors import Interrupted, SourceError
from migrator.events import TicketsCounted
from migrator.sources.base import FastLook, Ticket
from migrator.sources.kayako.tickets import Task
from migrator.sources.kayako.walk import Area, is_outage, page_of
from migrator.sources.kayako.whole import WholeListing

SORT = "hasattachments"
BARREN = 20
"""Tickets in a row without attachments after which there is nothing more to be found."""
PLACES = range(10, 100)
EACH = 3
"""Behind the marked tickets, as many are looked at in each of so many places.

One place for a hundred tickets before: that adds a few requests in a hundred.
"""
TOO_FEW = 200
"""A helpdesk of fewer tickets is listed whole: there is nothing to be saved."""


class FastListing:
    """Lists the tickets that are marked, and a few others.

    Falls back to :class:`WholeListing`, and says so, where the source does not sort by the mark or
    cannot count its tickets.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._receiver = task.receiver
        self._listing = task.listing
        self._walked: set[int] = set()
        self._facts = task.listing.preview = FastLook()

    async def __call__(self) -> None:
        """Look at every area of the scope, or to where the run was asked to stop."""
        try:
            try:
                await self._look()
            except SourceError as error:
                if is_outage(error):
                    raise
                await self._fall_back(f"the sorted list cannot be had: {error}")
        except Interrupted:
            await self._receiver.settle()

    async def _fall_back(self, why: str) -> None:
        self._listing.preview = FastLook(fallback=why)
        self._task.warn(f"everything is listed: {why}")
        await WholeListing(self._task)()

    async def _look(self) -> None:
        helpdesk = self._task.helpdesk
        helpdesk.note(self._listing.unreadable)
        areas = helpdesk.areas(self._task.scope)
        counts = [await self._count(area) for area in areas]
        if why := await self._why_not(areas, counts):
            await self._fall_back(why)
            return
        self._facts.tickets = self._listing.total = sum(count or 0 for count in counts)
        sizes = [(area, count or 0) for area, count in zip(areas, counts, strict=True)]
        ends = [await self._boundary(area, count) for area, count in sizes]
        self._facts.marked = sum(ends)
        self._receiver.tell(TicketsCounted(sum(ends)))
        for (area, count), end in zip(sizes, ends, strict=True):
            await self._front(area, count, end)

    async def _count(self, area: Area) -> int | None:
        return await self._task.client.ticket_count(*area)

    async def _why_not(self, areas: list[Area], counts: list[int | None]) -> str:
        """Tell why a fast look cannot be had; "" if it can.

        A source that does not know the sort lists by id, as it does when all are marked, or none.
        """
        if None in counts:
            return "this version of Kayako cannot count its tickets"
        area, count = max(zip(areas, counts, strict=True), key=lambda one: one[1] or 0)
        if (count or 0) < TOO_FEW:
            return "there are few tickets"
        first = [one.id for one in await self._page(area, 0, TOO_FEW // 2)]
        for sort, order in ((SORT, "ASC"), ("ticketid", "DESC")):
            other = await self._page(area, 0, TOO_FEW // 2, sort=sort, order=order)
            if [one.id for one in other] == first:
                return "Kayako does not sort tickets by their attachments, or all are alike"
        return ""

    async def _page(
        self, area: Area, start: int, count: int, *, sort: str = SORT, order: str = "DESC"
    ) -> list[Ticket]:
        return await page_of(self._task.client, area, start, count, sort=sort, order=order)

    async def _boundary(self, area: Area, count: int) -> int:
        """Find the first row whose ticket has no attachments, as if there were only one such."""
        low, high = 0, count
        while low < high and not self._receiver.stopping:
            middle = (low + high) // 2
            page = await self._page(area, middle, 1)
            self._facts.probes += 1
            if page and await self._has_files(page[0]):
                low = middle + 1
            else:
                high = middle
        return low

    async def _has_files(self, ticket: Ticket) -> bool:
        """List a ticket that may be out of scope: the boundary is that of all."""
        if self._in_scope(ticket):
            return bool(await self._files([ticket]))
        return bool(await self._receiver.attachments(ticket))

    async def _front(self, area: Area, count: int, end: int) -> None:
        """List the tickets up to the boundary and on, until a row of them has no attachments."""
        size, start, barren = self._task.page_size, 0, 0
        while (start < end or barren < BARREN) and start < count and not self._receiver.stopping:
            asked = min(size, end - start) if start < end else BARREN
            page = await self._page(area, start, max(asked, 1))
            if not page:
                break
            have = await self._files(page)
            for ticket in page:
                barren = 0 if have.get(ticket.id) else barren + 1
            start += len(page)
        await self._behind(area, start, count)

    async def _behind(self, area: Area, start: int, count: int) -> None:
        """Look at some of the tickets that are passed over, to tell what is missed."""
        facts, left = self._facts, count - start
        if left <= 0:
            return
        facts.behind += left
        places = min(max(start // 100, PLACES.start), PLACES.stop)
        step = max(EACH, left // places)
        for row in range(start, count, step):
            if self._receiver.stopping:
                return
            page = [one for one in await self._page(area, row, EACH) if one.id not in self._walked]
            have = await self._files(page)
            facts.looked += len(page)
            facts.found += len(have)
            facts.files += sum(have.values())

    async def _files(self, tickets: list[Ticket]) -> dict[int, int]:
        """List some tickets, as far as they are in scope; return those that have attachments."""
        for ticket in tickets:
            self._walked.add(ticket.id)
            known = self._listing.listed.get(ticket.id) == ticket.last_activity
            if self._in_scope(ticket) and not known:
                await self._receiver.take(ticket)
        await self._receiver.settle()
        return await self._receiver.count_files([one.id for one in tickets]) if tickets else {}

    def _in_scope(self, ticket: Ticket) -> bool:
        return not 0 < ticket.last_activity < self._task.scope.since
