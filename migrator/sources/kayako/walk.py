"""Walk all tickets of a helpdesk, page by page, while people work in it.

Kayako pages by row offset. Tickets that leave the list during a walk pull later rows up, past
the next offset; so pages overlap, and a page that shares no ticket with earlier ones is requested
again from further up. No page is taken on trust: if a cache answers with another page, it is
requested under another address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from migrator.errors import (
    PartialReply,
    SourceError,
    SourceUnreachable,
    Throttled,
    TooLarge,
    UnexpectedReply,
)
from migrator.sources.base import (
    TRASH,
    Directory,
    Scope,
    Ticket,
    Unreadable,
    concurrently,
    raise_if_final,
)
from migrator.sources.kayako.limits import FAR, SLACK, most_rows
from migrator.text import find_id

MOST_LOST_ROWS = 20
"""Unreadable rows in a row that are requested singly; then the walk looks further down."""

FARTHEST = 1 << 17
"""The most rows that are skipped; if more are unreadable, the list itself is broken."""

MOST_DOUBTS = 10
"""The most steps up in search of a known row, each twice as far as the last."""

CAUTION = 20
"""Pages that stay small after a large one failed whose pieces were all readable."""

OVERLAP = 10
"""One row in so many is requested again with the next page, but at least one."""

OUTAGES = (SourceUnreachable, Throttled)
"""Failures that do not depend on the request: the source is away."""

DEPARTMENTS_LENGTH = 200
STATUSES_LENGTH = 150
"""Characters of ids in one address: Suhosin drops values of more than 512."""

if TYPE_CHECKING:
    from migrator.sources.kayako.client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list.

    ``place`` returns a number that never falls from one row to the next. ``far_enough`` decides
    by the last row of a page that the walk is done.
    """

    sort: str
    direction: str
    place: Callable[[Ticket], float]
    far_enough: Callable[[Ticket], bool]


BY_ID = Order("ticketid", "ASC", lambda ticket: ticket.id, lambda _: False)
"""The one order without ties."""


class Area(NamedTuple):
    """One list of tickets: the departments and the statuses that its address names."""

    department_ids: tuple[int, ...]
    status_ids: tuple[int, ...]

    def halves(self) -> list[Area]:
        """Return two lists that together hold the same; none for one department and one status."""
        departments, statuses = self
        if len(departments) > 1:
            n = len(departments) // 2
            return [Area(departments[:n], statuses), Area(departments[n:], statuses)]
        n = len(statuses) // 2
        return [Area(departments, statuses[:n]), Area(departments, statuses[n:])] if n else []


@dataclass(frozen=True, slots=True)
class Helpdesk(Directory):
    """The departments and statuses that a walk has to name.

    ``problems`` names unreadable ones: their tickets are in no list.
    """

    problems: tuple[str, ...] = ()

    def areas(self, scope: Scope) -> list[Area]:
        """Return the lists to walk, one walk each, so that no address is too long.

        Every status is named: the source takes a missing list for "unresolved only".
        """
        ids = [one.id for one in self.departments if one.app == "tickets"]
        if scope.departments is not None:
            known = [(one.id, one.title) for one in self.departments if one.app == "tickets"]
            ids = sorted({find_id("department", name, known) for name in scope.departments})
        parts = _parts(ids, DEPARTMENTS_LENGTH)
        areas = [Area(part, one) for part in parts for one in self._statuses(part, len(parts) == 1)]
        if scope.include_trash:
            areas += [Area((TRASH,), one) for one in self._statuses((TRASH,), True)]
        return areas

    def note(self, unreadable: Unreadable) -> None:
        """Add what the lists leave out because its department or status is unreadable."""
        for number, problem in enumerate(self.problems):
            unreadable.note(-1, number, problem, rows=0)

    def _statuses(self, department_ids: Collection[int], alone: bool) -> list[tuple[int, ...]]:
        """Return the statuses to name with some departments, in as many parts as are needed.

        Kayako drops a status of another department, and treats an empty list as "unresolved only":
        so each part names only statuses that apply.
        """
        whole = _parts([one.id for one in self.statuses], STATUSES_LENGTH)
        if alone and len(whole) == 1:
            return whole
        known = [one.id for one in self.statuses if one.department_id in {0, *department_ids}]
        return _parts(known, STATUSES_LENGTH) or whole


def _parts(ids: Sequence[int], length: int) -> list[tuple[int, ...]]:
    """Split a list of ids so that each part has at most so many characters."""
    parts: list[list[int]] = []
    left = 0
    for one in ids:
        left -= len(str(one)) + 1
        if left < 0 or not parts:
            parts.append([])
            left = length - len(str(one))
        parts[-1].append(one)
    return [tuple(part) for part in parts]


async def look_around(client: Client) -> Helpdesk:
    """Return departments and statuses.

    Raises UnexpectedReply when there are none. Without the ids of statuses Kayako lists unresolved
    tickets only, and the others would be missed silently; without a department for tickets there
    is nothing to list, and an error of the source would look like an empty helpdesk.
    """
    departments, statuses = await concurrently(
        _known(client.departments()), _known(client.statuses())
    )
    if not any(one.app == "tickets" for one in departments[0]):
        raise UnexpectedReply(
            "Kayako names no department that has tickets, so none could be listed; "
            "check the API with `migrator doctor`"
        )
    if not statuses[0]:
        raise UnexpectedReply(
            "Kayako names no ticket status, so resolved tickets could not be listed; "
            "check the API with `migrator doctor`"
        )
    return Helpdesk(departments[0], statuses[0], departments[1] + statuses[1])


async def _known(asked: Awaitable[list[T]]) -> tuple[list[T], tuple[str, ...]]:
    """Return the readable part of a list, and its problems."""
    try:
        return await asked, ()
    except PartialReply as error:
        return list(error.rows), (str(error),)


async def count_tickets(client: Client, helpdesk: Helpdesk, scope: Scope) -> int | None:
    """Return how many tickets the walk should meet; None where the source cannot say."""
    total = 0
    for area in helpdesk.areas(scope):
        count = await client.ticket_count(*area)
        if count is None:
            return None
        total += count
    return total


async def page_of(
    client: Client, area: Area, start: int, count: int, *, sort: str, order: str
) -> list[Ticket]:
    """Return the readable part of one page of a list, outside of a walk."""
    try:
        return await client.tickets_page(*area, count=count, start=start, sort=sort, order=order)
    except PartialReply as error:
        return list(error.rows)


async def walk(
    client: Client,
    helpdesk: Helpdesk,
    scope: Scope,
    *,
    page_size: int,
    unreadable: Unreadable | None = None,
) -> AsyncIterator[Ticket]:
    """Yield each ticket of the scope once, by id within an area.

    Rows that the source cannot show are skipped and added to ``unreadable``, with the reason.
    Raises SourceError when the source does not answer at all, or not a single row can be read.
    """
    lost = Unreadable() if unreadable is None else unreadable
    helpdesk.note(lost)
    pages = Pages(client, page_size, lost)
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


class _Page(NamedTuple):
    """A reply: ``asked`` rows were requested, ``rows`` came, a few of them unreadable."""

    tickets: list[Ticket]
    asked: int
    rows: int


class Pages:
    """The pages of lists; ``watch`` gets each accepted page, and its first row."""

    def __init__(
        self,
        client: Client,
        page_size: int,
        unreadable: Unreadable,
        *,
        order: Order = BY_ID,
        watch: Callable[[int, list[Ticket]], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._page_size = page_size
        self._unreadable = unreadable
        self._order = order
        self._watch = watch
        self._area = -1
        self._error: SourceError | None = None
        self._found: dict[int, Ticket] = {}
        self._walked: list[Area] = []
        self._too_long = False
        self._most = SLACK
        unreadable.endless = False

    async def walk(self, area: Area, met: set[int]) -> AsyncIterator[Ticket]:
        """Walk the next list, in shorter ones if the source sends it whole and it is too long.

        Versions before pages do that.
        """
        self._too_long = False
        async for ticket in self._walk(area, met):
            yield ticket
        if self._too_long:
            self._walked.remove(area)
            for half in area.halves():
                async for ticket in self.walk(half, met):
                    yield ticket

    async def _walk(self, area: Area, met: set[int]) -> AsyncIterator[Ticket]:
        """Walk a list to its end: far enough, or until nothing new comes.

        A short page is not the end: a server may send less than requested. One that ignores pages
        altogether repeats itself and so ends the walk too; one that ignores only the offset
        repeats a full page, and larger ones are requested until they are no longer full.
        """
        self._area += 1
        self._walked.append(area)
        course = _Course(area, self._order, self._page_size)
        page: _Page | None = None
        while True:
            del page  # one in memory is enough
            page = await self._page(area, course.start, course.size)
            if page is None and await self._ends(area, course, known=bool(met)):
                return
            if page is None or course.doubts(page):
                continue
            self._watch(course.start, page.tickets)
            for ticket in page.tickets:
                if ticket.id not in met:
                    met.add(ticket.id)
                    yield ticket
            if page.tickets and self._order.far_enough(page.tickets[-1]):
                return
            reached = max(len(met), course.start)
            if reached > self._most and await self._never_ends(area, reached, met):
                return
            if course.takes(page) or not course.may_end(page, self._unreadable.rows):
                course.go_on(page)
            elif not course.looks_again(page):
                return

    async def _never_ends(self, area: Area, reached: int, met: set[int]) -> bool:
        """Return whether a list goes on far behind its own count, and note that.

        A count may be wrong. But a list that ends has no far row, or repeats known ones there.
        """
        count = await self._count()
        if count is not None and reached <= 2 * count + SLACK:
            self._most = 2 * count + SLACK
            return False
        far = await self._ask(area, FAR, 1)
        if reached < most_rows(count) and (far is None or not _ids(far.tickets) - met):
            self._most = 2 * reached
            return False
        counted = "cannot count its tickets" if count is None else f"counts {count:,} tickets"
        text = f"the list goes on and on: {reached:,} rows were met, but the source {counted}"
        self._unreadable.note(-2 - self._area, FAR, text, rows=0)
        self._unreadable.endless = True
        return True

    async def _count(self) -> int | None:
        """Return how many tickets the lists walked so far should have, if the source says so."""
        try:
            counts = [await self._client.ticket_count(*area) for area in self._walked]
        except SourceError as error:
            raise_if_final(error, *OUTAGES)
            return None
        return None if None in counts else sum(one or 0 for one in counts)

    async def _page(self, area: Area, start: int, size: int) -> _Page | None:
        """Return the page at ``start``, or a piece of it; None for a row that cannot be read.

        One damaged ticket, one page too large for PHP's memory, or one word that a firewall
        blocks must not hide the others: a failed page is requested in smaller pieces, down to a
        single row.
        """
        while (page := await self._ask(area, start, size)) is None:
            if size == 1:
                self._too_long = start == 0 and isinstance(self._error, TooLarge)
                if self._too_long and area.halves():
                    return None
                self._too_long = False
                await self._must_answer()
                self._unreadable.note(self._area, start, str(self._error))
                return None
            size = max(1, size // 4)
        return page

    async def _ask(self, area: Area, start: int, size: int) -> _Page | None:
        """Request once; return None for an error that concerns this page only."""
        try:
            tickets = await self._client.tickets_page(
                *area,
                count=size,
                start=start,
                sort=self._order.sort,
                order=self._order.direction,
            )
        except PartialReply as error:
            self._error = error
            return await self._part(start, size, error) if error.rows else None
        except SourceError as error:
            raise_if_final(error, *OUTAGES)
            self._error = error
            return None
        return _Page(tickets, size, len(tickets))

    async def _must_answer(self) -> None:
        """Raise SourceError when the server is broken, not a row."""
        with suppress(PartialReply):
            await self._client.statuses()

    async def _part(self, start: int, size: int, error: PartialReply) -> _Page:
        """Return the readable part of a page, and add the rest to ``unreadable``."""
        if error.strays:
            text = f"the page from row {start}: {error}"
            self._unreadable.note(-2 - self._area, start, text, rows=0)
        lost, row, tickets = set(error.lost), 0, []
        for ticket in error.rows:
            while row in lost:
                row += 1
            doubted = ticket.id in error.doubted
            tickets.append(await self._alone(ticket, start + row) if doubted else ticket)
            row += 1
        for row in lost:
            self._unreadable.note(self._area, start + row, str(error))
        return _Page(tickets, size, len(tickets) + len(lost))

    async def _alone(self, ticket: Ticket, row: int) -> Ticket:
        """Request a ticket whose row is damaged; fall back to the readable part of the row."""
        if ticket.id in self._found:  # pages overlap
            return self._found[ticket.id]
        found: list[Ticket] = []
        try:
            found = [await self._client.ticket(ticket.id)]
            why = f"the source answers with ticket {found[0].id}"
        except PartialReply as error:
            found = [one for one in error.rows if one.id not in error.doubted]
            why = str(error)
        except SourceError as error:
            raise_if_final(error, *OUTAGES)
            why = str(error)
        if [one.id for one in found] == [ticket.id]:
            return self._found.setdefault(ticket.id, replace(found[0], posts=()))
        text = f"ticket {ticket.id}: its row is damaged, and when it is asked for alone: {why}"
        self._unreadable.note(self._area, row, text, rows=0)
        return ticket

    async def _ends(self, area: Area, course: _Course, *, known: bool) -> bool:
        """Return whether a list ends at a row that cannot be read."""
        return self._too_long or not await self._pass_over(area, course, known=known)

    async def _pass_over(self, area: Area, course: _Course, *, known: bool) -> bool:
        """Continue behind an unreadable row; return False when there is nothing more."""
        if course.pass_over() < MOST_LOST_ROWS:
            return True
        row = await self._beyond(area, course.start, known=known or bool(course.seen))
        if row is not None:
            course.jump(row)
        return row is not None

    async def _beyond(self, area: Area, start: int, *, known: bool) -> int | None:
        """Return the next readable row behind many unreadable ones; None for none at all.

        Searches further down in growing steps, then between the last two places. Raises the last
        error when no row of any list could be read.
        """
        bad, step = start - 1, MOST_LOST_ROWS
        row, good = start, None
        while good is None and step <= FARTHEST:
            row = bad + step
            if (good := await self._ask(area, row, 1)) is None:
                bad, step = row, 2 * step
        await self._must_answer()
        while good is not None and row - bad > 1:
            middle = (bad + row) // 2
            if (page := await self._ask(area, middle, 1)) is None:
                bad = middle
            else:
                row, good = middle, page
        if self._error is not None and not known and (good is None or not good.rows):
            raise self._error
        if good is None:
            text = f"no row from here on can be read, as far as was tried: {self._error}"
            self._unreadable.note(self._area, start, text)
            return None
        if row > start:
            many = row - start
            text = f"{many:,} rows from here on cannot be read, as far as was tried: {self._error}"
            self._unreadable.note(self._area, start, text, rows=many)
        return row


class _Course:
    """The position of a walk in its list, and its next request."""

    def __init__(self, area: Area, order: Order, page_size: int) -> None:
        self._area = area
        self._order = order
        self._page_size = self._largest = self.size = page_size
        self.start = 0
        self.seen: set[int] = set()  # in this list only
        self._tail: list[int] | None = None
        """The ids that the next page must begin with; None where any may come."""
        self._furthest = -inf
        self._rough = 0
        """The row behind an unreadable one."""
        self._lost = self._doubts = self._strange = self._caution = 0
        self._again = self._odd = False
        self._doubted: set[tuple[int, int]] = set()
        """Requests with impossible answers, as from a cache."""

    def pass_over(self) -> int:
        """Go to the next row; return how many in a row were unreadable."""
        lost = self._lost + 1
        self.jump(self.start + 1)
        self._lost = lost
        return lost

    def jump(self, row: int) -> None:
        """Go to a row about which nothing is known."""
        self._lost = self._rough = 0
        self._tail = None
        self._ask(row, 1)

    def _ask(self, start: int, size: int) -> None:
        """Request this page next, but not under an address that was answered wrongly before."""
        while (start, size) in self._doubted:
            size += 1
        self.start, self.size = start, size

    def doubts(self, page: _Page) -> bool:
        """Return whether a page must be requested again, at another place or in another size."""
        if page.asked < self.size:
            self._rough = max(self._rough, self.start + self.size)
        ids = _ids(page.tickets)
        start, odd, self._odd = self.start, self._odd, False
        unknown = self._tail and start and self.seen.isdisjoint(ids)
        if unknown and self._doubts < MOST_DOUBTS:
            # Rows moved up by the overlap or more: those between were never shown.
            start = max(0, start - (self._largest << self._doubts))
            self._doubts += 1
        elif self._strange < MOST_DOUBTS and _strangers(page.tickets, self._area):
            self._strange += 1
        elif self._tail and not unknown and not odd and ids.isdisjoint(self._tail):
            self._odd = True  # a page from further up, because tickets came back, or by mistake
        else:
            self._lost = 0
            return False
        self._doubted.add((self.start, page.asked))
        self._ask(start, page.asked if start == self.start else self._largest)
        return True

    def takes(self, page: _Page) -> bool:
        """Return whether a page brings anything new."""
        new = _ids(page.tickets) - self.seen
        if new:
            self._furthest = max(self._furthest, *map(self._order.place, page.tickets))
            self._doubts, self._again = 0, False
            self.seen |= new
        return bool(new)

    def may_end(self, page: _Page, unreadable: int) -> bool:
        """Return whether a page without a new ticket may be the end of its list.

        It is not when only a piece of it was readable, when it stops before a ticket that was met,
        or when the walk came back to it from further down and its last row may have a next one. A
        list is seldom twice as long as the part already seen: further down, only a server that
        ignores the offset repeats known rows, one that always sends all in its own order.
        """
        farthest = 2 * (len(self.seen) + unreadable) + self._page_size
        if self._again or not page.tickets or self.start > farthest:
            return True
        if page.asked < self._page_size or self._order.place(page.tickets[-1]) < self._furthest:
            return False
        return not self._doubts or len(page.tickets) == 1

    def looks_again(self, page: _Page) -> bool:
        """Return whether another request is needed before the list is at its end.

        The reply may be another page than the requested one, unless it is just what the page
        before announced, or more than was requested.
        """
        ids = [ticket.id for ticket in page.tickets]
        if not self._again and page.rows <= page.asked and ids != self._tail:
            self._again, self._tail = True, None
            self._doubted.add((self.start, page.asked))
            self._ask(self.start + bool(ids), page.asked)
            return True
        if len(set(ids)) != page.asked:  # not cut by the count
            return False
        self._tail, self._again, self._largest = None, False, 2 * page.asked
        self._ask(0, self._largest)
        return True

    def go_on(self, page: _Page) -> None:
        """Go to the next page, which begins with the last rows of this one."""
        ids = [ticket.id for ticket in page.tickets]
        overlap = min(page.rows - 1, max(1, page.rows // OVERLAP))
        self._tail = ids[-overlap:] if overlap > 0 and len(ids) == page.rows else None
        start = self.start + max(page.rows - overlap, 1)
        if self._rough and start >= self._rough:  # the page was too large
            self._rough, self._caution = 0, CAUTION
        careful = self._rough or self._caution
        self._caution = max(0, self._caution - 1)
        self._ask(start, page.asked if careful else min(4 * page.asked, self._largest))


def _ids(page: list[Ticket]) -> set[int]:
    return {ticket.id for ticket in page}


def _strangers(page: list[Ticket], area: Area) -> bool:
    """Return whether a page holds tickets of other departments than requested."""
    return any(0 < one.department_id not in area.department_ids for one in page)
