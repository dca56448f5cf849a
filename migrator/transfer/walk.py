"""Walking all tickets of a helpdesk, page by page, while people work in it.

Kayako pages by row offset. Tickets that leave the list during a walk pull later rows up, past
the offset where we ask next; so pages overlap, and a page that shares no ticket with what was
seen before is asked again from further up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from math import inf

from migrator.errors import (
    ConfigError,
    MemoryExhausted,
    NotXml,
    ServerFailed,
    TooLarge,
    Truncated,
    UnexpectedReply,
)
from migrator.kayako.records import Department, Ticket, TicketStatus
from migrator.transfer.both import both
from migrator.transfer.protocols import Source

MOST_LOST_ROWS = 20
"""Unreadable rows in a row after which it is the list that is broken, not its tickets."""

MOST_DOUBTS = 10
"""How often in a row the walk looks further up for a row that it knows, each time twice as far."""

OVERLAP = 10
"""One row in so many is asked for again with the next page, but at least one."""

TRASH = 0
"""The department id of tickets in the trash; it must be asked alone."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the helpdesk a run looks at; the default is all but the trash.

    ``departments`` are ids or titles, None for all. ``since`` drops tickets whose last activity
    is older (Unix seconds). ``limit_tickets`` ends the walk early.
    """

    departments: frozenset[str] | None = None
    since: int = 0
    limit_tickets: int | None = None
    include_trash: bool = False

    @property
    def whole(self) -> bool:
        """Whether the walk sees every ticket, so that what it does not see is not there."""
        return self.departments is None and not self.since and self.limit_tickets is None

    def told(self) -> dict[str, object]:
        """Give the scope as records keep it."""
        return {
            "departments": sorted(self.departments) if self.departments is not None else None,
            "since": self.since,
            "limit_tickets": self.limit_tickets,
            "include_trash": self.include_trash,
        }


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted.

    ``place`` gives a number that never falls from one row to the next. ``far_enough`` tells from
    the last row of a page that the walk need not go on.
    """

    sort: str
    direction: str
    place: Callable[[Ticket], int]
    far_enough: Callable[[Ticket], bool]


BY_ID = Order("ticketid", "ASC", lambda ticket: ticket.id, lambda _: False)
"""The one order without ties."""


@dataclass(frozen=True, slots=True)
class Helpdesk:
    """The departments and statuses that a walk has to name."""

    departments: list[Department]
    statuses: list[TicketStatus]

    @property
    def status_ids(self) -> list[int]:
        """All status ids: the source takes a missing list for "unresolved only"."""
        return [status.id for status in self.statuses]

    def areas(self, scope: Scope) -> list[list[int]]:
        """Give the lists of department ids to walk, one walk each."""
        ids = [one.id for one in self.departments if one.app == "tickets"]
        if scope.departments is not None:
            ids = sorted({self._department(name).id for name in scope.departments})
        areas = [ids] if ids else []
        if scope.include_trash:
            areas.append([TRASH])
        return areas

    def _department(self, name: str) -> Department:
        """Find a department by its id or title; ConfigError names those there are."""
        wanted = name.strip().casefold()
        known = [one for one in self.departments if one.app == "tickets"]
        for one in known:
            if wanted in (str(one.id), one.title.strip().casefold()):
                return one
        names = ", ".join(f"{one.id} ({one.title})" for one in known)
        raise ConfigError(f"there is no department {name!r}; there are: {names or 'none'}")


async def look_around(source: Source) -> Helpdesk:
    """Ask for departments and statuses.

    Raises UnexpectedReply when there are none. Without the ids of statuses Kayako lists unresolved
    tickets only, and nobody would miss the others; without a department that has tickets there is
    nothing to list, and a slip of the source would pass for an empty helpdesk.
    """
    departments, statuses = await both(source.departments(), source.statuses())
    if not any(one.app == "tickets" for one in departments):
        raise UnexpectedReply(
            "Kayako names no department that has tickets, so none could be listed; "
            "check the API with `migrator doctor`"
        )
    if not statuses:
        raise UnexpectedReply(
            "Kayako names no ticket status, so resolved tickets could not be listed; "
            "check the API with `migrator doctor`"
        )
    return Helpdesk(departments, statuses)


async def count_tickets(source: Source, helpdesk: Helpdesk, scope: Scope) -> int | None:
    """Ask how many tickets the walk should meet; None where the source cannot say."""
    total = 0
    for area in helpdesk.areas(scope):
        count = await source.ticket_count(area, helpdesk.status_ids)
        if count is None:
            return None
        total += count
    return total


async def walk(
    source: Source,
    helpdesk: Helpdesk,
    scope: Scope,
    *,
    page_size: int,
    unreadable: dict[int, str] | None = None,
) -> AsyncIterator[Ticket]:
    """Give each ticket of the scope once, by id within an area.

    A row that the source cannot render even alone goes into ``unreadable``, with the reason, and
    is passed over. Raises SourceError when the source does not answer at all.
    """
    pages = Pages(source, helpdesk, page_size, {} if unreadable is None else unreadable)
    met: set[int] = set()
    given = 0
    for area in helpdesk.areas(scope):
        async for ticket in pages.walk(area, met):
            if scope.since and 0 < ticket.last_activity < scope.since:
                continue
            yield ticket
            given += 1
            if given == scope.limit_tickets:
                return


class Pages:
    """The pages of a list; ``watch`` sees each of them, with the row that it starts at."""

    def __init__(
        self,
        source: Source,
        helpdesk: Helpdesk,
        page_size: int,
        unreadable: dict[int, str],
        *,
        order: Order = BY_ID,
        watch: Callable[[int, list[Ticket]], None] = lambda *_: None,
    ) -> None:
        self._source = source
        self._status_ids = helpdesk.status_ids
        self._page_size = page_size
        self._unreadable = unreadable
        self._order = order
        self._watch = watch

    async def walk(self, area: Collection[int], met: set[int]) -> AsyncIterator[Ticket]:
        """Walk one list to its end, which is far enough or a page that brings nothing new.

        A short page is not the end: a server may give less than was asked for. One that ignores
        pages altogether repeats itself and so ends the walk too; one that ignores the offset only
        repeats a full page, and is asked for larger ones until they are not full any more.
        """
        start, largest, overlapped = 0, self._page_size, False
        size = largest
        seen: set[int] = set()  # in this list: tickets of another one are nothing to hold on to
        lost_in_a_row = doubts = 0
        furthest = -inf
        while True:
            page, asked = await self._page(area, start, size, lost_in_a_row)
            if page is None:
                start, size, overlapped, lost_in_a_row = start + 1, 1, False, lost_in_a_row + 1
                continue
            lost_in_a_row = 0
            self._watch(start, page)
            if overlapped and start and doubts < MOST_DOUBTS and seen.isdisjoint(_ids(page)):
                # Rows moved up by the overlap or more: what lies between was never shown.
                start, doubts = max(0, start - (largest << doubts)), doubts + 1
                continue
            fresh = _ids(page) - seen
            for ticket in page:
                if ticket.id not in met:
                    met.add(ticket.id)
                    yield ticket
            if page and self._order.far_enough(page[-1]):
                return
            if fresh:
                furthest, doubts = max(furthest, *map(self._order.place, page)), 0
                seen |= fresh
            elif start > self._farthest_start(seen) or self._ended(
                page, asked, furthest, sure=not doubts
            ):
                if len(_ids(page)) != asked:  # not cut by the count
                    return
                start, size, largest, overlapped = 0, 2 * asked, 2 * asked, False
                continue
            overlap = min(len(page) - 1, max(1, len(page) // OVERLAP))
            start, overlapped = start + max(len(page) - overlap, 1), overlap > 0
            size = min(2 * asked, largest)

    def _farthest_start(self, seen: set[int]) -> int:
        """Give the row past which only a server that ignores the offset repeats what we know.

        A list is seldom twice as long as what was seen of it; one in an order of its own that
        is always sent whole would else never end.
        """
        return 2 * (len(seen) + len(self._unreadable)) + self._page_size

    def _ended(self, page: list[Ticket], asked: int, furthest: float, *, sure: bool) -> bool:
        """Tell whether a page without a new ticket is the end of its list.

        It is not when only a piece of it could be read, when it stops before a ticket that was
        met, or when we came back to it from further down and its last row may have a next one.
        """
        if not page:
            return True
        if asked < self._page_size or self._order.place(page[-1]) < furthest:
            return False
        return sure or len(page) == 1

    async def _page(
        self, area: Collection[int], start: int, size: int, lost_in_a_row: int
    ) -> tuple[list[Ticket] | None, int]:
        """Give the page at ``start`` and its size; None for a single row that cannot be read.

        One damaged ticket, or one page too large for PHP's memory, must not hide the others:
        what fails is asked for in smaller pieces, down to a single row.
        """
        while True:
            try:
                page = await self._source.tickets_page(
                    area,
                    self._status_ids,
                    count=size,
                    start=start,
                    sort=self._order.sort,
                    order=self._order.direction,
                )
            except (ServerFailed, MemoryExhausted, NotXml, Truncated, TooLarge) as error:
                if size > 1:
                    size = max(1, size // 4)
                    continue
                await self._source.statuses()  # raises when it is the server that is broken
                if lost_in_a_row >= MOST_LOST_ROWS:
                    raise
                self._unreadable[start] = str(error)
                return None, 1
            return page, size


def _ids(page: list[Ticket]) -> set[int]:
    return {ticket.id for ticket in page}
