"""The three listings: of every ticket, of recently active ones, of those with files.

A whole listing walks again until nothing moves, and compares with the source's count. Then it
requests the tickets that no list names: Kayako lists tickets by department and status only, so a
ticket whose department or status was deleted is in no list and no count, but answers under its id
(as the source of Kayako 4 shows: it drops unknown ids of departments and statuses from a request).
Most ids in no list are of deleted and merged tickets, which cost one light request each.

A recent listing goes through the tickets by last activity, down to that of an earlier pass. Kayako
has no "changed since" filter, but it sorts by last activity. Activity is known to the second only,
many tickets may share one, and people work meanwhile; so the range is closed, and a walk compares
the number of rows of the list with that of the tickets that it met.

A fast listing covers only the tickets that Kayako marks as having attachments. It does not show the
mark, but it sorts by it. So the tickets with files come first, their end is found by bisection, and
the rest is passed over. The mark may be wrong both ways, and rows of one mark are in no order; so
the walk goes on behind the end until a row of tickets has nothing, and samples tickets further
down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from math import inf

from migrator.errors import Interrupted, SourceError, SourceUnreachable, UnexpectedReply
from migrator.events import Notice, TicketsCounted
from migrator.sources.base import (
    TRASH,
    FastLook,
    Increment,
    Scope,
    Ticket,
    concurrently,
    for_each,
    raise_if_final,
)
from migrator.sources.kayako.tickets import Task
from migrator.sources.kayako.walk import OUTAGES, Area, Order, Pages, page_of, walk
from migrator.text import counted

ENOUGH = 10
"""Tickets that show how a list is sorted."""

BEYOND = 10
"""Ids above the highest known one that are requested too: the newest may be in no list."""

FARTHEST = 1000
"""The most ids above the highest known one that are requested."""

MOST_UNASKED = 10
"""Failures after which no other id is requested: a check must not overload a server."""

SORT = "hasattachments"
BARREN = 20
"""Tickets in a row without attachments that end the front of the list."""
PLACES = range(10, 100)
EACH = 3
"""Behind the marked tickets, so many are listed in each of so many places.

There is one place for every hundred marked tickets, so it adds a few requests in a hundred.
"""
TOO_FEW = 200
"""A helpdesk of fewer tickets is listed whole: a fast listing would save nothing."""


class Gaps:
    """Requests the ids that neither a list nor the archive knows, up to some above the highest."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._found = 0
        self._answered = 0
        self._failed: dict[int, str] = {}
        self._highest = self._farthest = 0

    async def ask(self, met: set[int]) -> None:
        """Pass on the tickets that answer, unless there are too many ids to request."""
        task, listing = self._task, self._task.listing
        known = await self._known_besides(met)
        highest = max(max(met, default=0), max(known, default=0))
        gaps = highest - len(met) - len(known)
        if task.most_gaps is not None and gaps > task.most_gaps:
            text = (
                f"{gaps:,} ticket ids are in no list: of deleted and merged tickets, and of any "
                "whose department or status was deleted; `migrator run --every-id` asks for each"
            )
            task.receiver.tell(Notice(text))
            listing.unasked = gaps
            return
        self._highest, self._farthest = highest, highest + FARTHEST
        left = (number for number in self._ids() if not (number in met or number in known))
        await for_each(left, self._ask, workers=task.concurrency, stopping=self._ended)
        await task.receiver.settle()
        if self._found:
            text = f"found {counted(self._found, 'ticket')} by id that no list of the source names"
            task.receiver.tell(Notice(text))
        if not self._answered:  # no sign of any ticket above
            self._failed = {key: text for key, text in self._failed.items() if key < highest}
        if self._failed:
            n = len(self._failed)
            task.warn(f"could not ask for {counted(n, 'ticket id')} that no list names")
            # after too many failures
            listing.unasked = sum(1 for number in left if number < highest)
            if self._answered:  # only these tickets cannot be shown
                listing.unlisted |= self._failed
            else:  # the source has no answer for missing tickets
                listing.unasked += n

    def _ended(self) -> bool:
        return self._task.receiver.stopping or len(self._failed) >= MOST_UNASKED

    def _ids(self) -> Iterator[int]:
        """Yield all ids up to some above the highest one known by then."""
        number = 0
        while (number := number + 1) <= min(self._highest + BEYOND, self._farthest):
            yield number

    async def _known_besides(self, met: set[int]) -> set[int]:
        """Return the tickets that are known without having been met by the last walk."""
        listing = self._task.listing
        earlier = await self._task.receiver.known_tickets()
        parts = (earlier, listing.listed, listing.merged, listing.absent, listing.unlisted)
        return {number for part in parts for number in part if number not in met}

    async def _ask(self, number: int) -> None:
        try:
            await self._list(number)
            self._answered += 1
        except Interrupted:
            pass  # the run is to stop
        except SourceError as error:
            raise_if_final(error)
            if type(error) is UnexpectedReply:
                self._answered += 1  # an empty list, which some servers send instead
            else:
                self._failed[number] = f"it is in no list, and by its id: {error}"

    async def _list(self, number: int) -> None:
        """Pass one ticket on, unless it is in the trash and the trash is not in scope."""
        task = self._task
        ticket = await task.resolve(number, in_no_list=True)
        if ticket is not None and ticket.id == number:
            self._highest = max(self._highest, number)
        if ticket is None or ticket.id in task.listing.listed:
            return
        if not ticket.in_trash or task.scope.include_trash:
            self._found += 1
            await task.receiver.take(ticket)


class _Listing:
    """A listing that ends when the run is to stop."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._receiver = task.receiver
        self._listing = task.listing

    async def __call__(self) -> None:
        """List to the end, or until the run is to stop."""
        try:
            await self._list()
        except Interrupted:
            await self._receiver.settle()

    async def _list(self) -> None:
        raise NotImplementedError


class WholeListing(_Listing):
    """Lists every ticket in scope.

    Tickets arrive, change, are merged or deleted during a walk. A walk is cheap compared to the
    lists of attachments (one request for a page of tickets, one for each list), so it is repeated
    until it meets the same tickets as the one before.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._met: set[int] = set()

    async def _list(self) -> None:
        task, listing = self._task, self._listing
        until = await self._look_ahead()
        met = 0
        for look in range(task.looks):
            met, moved = await self._look(look)
            if self._receiver.stopping or not task.scope.whole or listing.unreadable.endless:
                return
            if look:
                moved += await self._follow_vanished()
            if not moved and (met or look):  # an empty list may be an error of the source
                break
        await self._settle_absent()
        await Gaps(task).ask(self._met)
        await self._compare(met)
        if not listing.short:
            latest = min(listing.started, max(listing.listed.values(), default=0))
            listing.watermark = latest if until is None else until

    async def _look_ahead(self) -> int | None:
        """Count the tickets; return the last activity up to which this walk is complete."""
        task, scope, listing = self._task, self._task.scope, self._listing

        async def count() -> None:
            listing.total = listing.helpdesk_tickets = await task.count()
            self._receiver.tell(TicketsCounted(_walked(scope, listing.total)))

        if not scope.whole:
            await count()
            if scope.departments is not None:
                everything = Scope(include_trash=scope.include_trash)
                listing.helpdesk_tickets = await task.count(everything)
            return None
        _, until = await concurrently(count(), settled_until(task))
        return until

    async def _settle_absent(self) -> None:
        """Request tickets that the walk met and whose attachments got a 404.

        One deleted since is not a gap; one that still exists is a contradiction, and a gap.
        """
        listing = self._listing
        for ticket_id in sorted(self._met & (listing.absent.keys() - listing.listed.keys())):
            try:
                ticket = await self._task.resolve(ticket_id)
            except SourceError as error:
                raise_if_final(error)
                listing.unlisted[ticket_id] = str(error)
                continue
            if ticket is not None and ticket.id == ticket_id:
                listing.unlisted[ticket_id] = listing.absent[ticket_id]
            elif ticket is not None:
                await self._receiver.take(ticket)
        await self._receiver.settle()

    async def _look(self, look: int) -> tuple[int, int]:
        """Walk once; return the tickets met and how many of them were new or changed."""
        task, listing = self._task, self._listing
        self._met = set()
        moved = 0
        listing.unreadable.clear()  # a row may be readable by now
        async for ticket in walk(
            task.client,
            task.helpdesk,
            task.scope,
            page_size=task.page_of(look),
            unreadable=listing.unreadable,
        ):
            if self._receiver.stopping:
                break
            self._met.add(ticket.id)
            if listing.listed.get(ticket.id) != ticket.last_activity:
                moved += ticket.id not in listing.unlisted
                await self._receiver.take(ticket)
        await self._receiver.settle()
        return len(self._met), moved

    async def _follow_vanished(self) -> int:
        """List the targets of tickets that were merged during the walk."""
        survivors: dict[int, Ticket] = {}
        known = {*self._listing.listed, *self._listing.absent, *self._listing.unlisted}
        for ticket_id in sorted(known - self._met):
            if self._receiver.stopping:
                break
            if (ticket := await self._survivor(ticket_id)) is not None:
                survivors[ticket.id] = ticket
        for ticket in survivors.values():
            await self._receiver.take(ticket)
        await self._receiver.settle()
        return len(survivors)

    async def _survivor(self, ticket_id: int) -> Ticket | None:
        """Return the ticket that this one was merged into, if it was."""
        listing = self._listing
        try:
            ticket = await self._task.resolve(ticket_id, in_no_list=True)
        except SourceError as error:
            raise_if_final(error)
            listing.unlisted[ticket_id] = str(error)
            return None
        if ticket is not None and ticket.id == ticket_id:
            return None  # still there, in the trash or briefly out of the list
        if ticket is not None:
            listing.merged.add(ticket_id)
        listing.listed.pop(ticket_id, None)
        listing.absent.pop(ticket_id, None)
        listing.unlisted.pop(ticket_id, None)
        return ticket

    async def _compare(self, met: int) -> None:
        """Compare the walk with the source's count, which is requested again if it contradicts."""
        task, listing = self._task, self._listing
        listed = met + listing.unreadable.rows
        total = await task.count()
        if total is not None and total != listed:
            total = await task.count()
        listing.helpdesk_tickets = total
        listing.short = max(0, (total or 0) - listed)
        if listing.short:
            task.warn(
                f"the source counts {total:,} tickets but lists only {met:,}; "
                "run again, and ask `migrator doctor` if it stays so"
            )


def _walked(scope: Scope, total: int | None) -> int | None:
    """Return how many of the tickets that the source counts are in scope; it counts all ages."""
    if total is None or scope.since:
        return None
    return min(total, scope.limit_tickets or total)


async def settled_until(task: Task) -> int | None:
    """Return the newest activity that a listing begun now will see, in the source's seconds.

    None when the source cannot sort by activity, or did not answer, which does not end a run.
    """
    order = newest_first(0)
    count = max(task.page_size, ENOUGH)
    try:
        pages = [
            await page_of(task.client, area, 0, count, sort=order.sort, order=order.direction)
            for area in _lists(task)
        ]
    except SourceError as error:
        raise_if_final(error, *OUTAGES)
        return None
    if not all(map(_in_order, pages)) or (any(pages) and not any(map(sorts, filter(None, pages)))):
        return None
    return max((_latest(page, task.listing.started) for page in pages), default=0)


def _lists(task: Task) -> list[Area]:
    """Return the lists in which people work: all but the trash."""
    areas = task.helpdesk.areas(task.scope)
    return [area for area in areas if area.department_ids != (TRASH,)]


def newest_first(floor: int) -> Order:
    """Return the order of a list whose rows below ``floor`` do not matter.

    An activity of 0 is unknown: such a row may be anywhere.
    """
    return Order(
        "lastactivity",
        "DESC",
        lambda ticket: -ticket.last_activity or -inf,
        lambda ticket: 0 < ticket.last_activity < floor,
    )


def sorts(page: list[Ticket]) -> bool:
    """Return whether the first rows of a list show that the source sorts by activity.

    Old versions list by id instead; so rows that fit both orders prove nothing.
    """
    ids = [ticket.id for ticket in page]
    return _in_order(page) and (not ids or ids != sorted(ids))


def _in_order(page: list[Ticket]) -> bool:
    stamps = [ticket.last_activity for ticket in page if ticket.last_activity]
    return stamps == sorted(stamps, reverse=True)


def _latest(page: list[Ticket], now: int) -> int:
    """Return the newest activity of a page that is not in the future of our clock.

    One ticket from the future would hide all changes until then.
    """
    stamps = [ticket.last_activity for ticket in page]
    return max((one for one in stamps if one <= now), default=now if stamps else 0)


class OutOfOrderError(Exception):
    """The source does not sort by last activity."""


class Rows:
    """Watches the pages of one walk: their order, and how many rows above the floor they have."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._before = 0
        self._here = 0
        self._head: dict[int, Ticket] = {}
        self._sorted = False
        self.first: list[Ticket] | None = None
        self.any = False
        """Whether there is any row."""

    @property
    def count(self) -> int:
        """Rows at or above the floor, over all areas."""
        return self._before + self._here

    def next_area(self) -> None:
        """Begin another list."""
        self._before, self._here = self.count, 0
        self._head = {}

    def conclude(self) -> None:
        """Raise OutOfOrderError after a walk that has not shown the order of its list."""
        if self.any and not self._sorted:
            raise OutOfOrderError

    def __call__(self, start: int, page: list[Ticket]) -> None:
        """Check and count one page; raises OutOfOrderError."""
        if not _in_order(page):
            raise OutOfOrderError
        if self.first is None:
            self.first = page
        self.any = self.any or bool(page)
        if not self._sorted:  # a page around an unreadable row may hold one row only
            self._head |= {ticket.id: ticket for ticket in page if ticket.id not in self._head}
            self._sorted = sorts(list(self._head.values()))
        wanted = [ticket.last_activity >= self._floor for ticket in page]
        if any(wanted):  # rows of unknown activity may be among them
            self._here = max(self._here, start + len(page) - wanted[::-1].index(True))


class RecentListing(_Listing):
    """Lists every ticket that was active since the floor, and those owed."""

    def __init__(self, task: Task, increment: Increment) -> None:
        super().__init__(task)
        self._increment = increment
        self._met: set[int] = set()
        self._until: int | None = None

    async def __call__(self) -> None:
        """Walk to the floor, or until the run is to stop."""
        await super().__call__()
        for row, text in self._increment.unreadable.items():
            self._listing.unreadable.setdefault(row, text)

    async def _list(self) -> None:
        await self._ask_owed()
        await self._meet_all()
        if not self._listing.unreadable and not self._receiver.stopping:
            self._listing.watermark = self._until

    async def _ask_owed(self) -> None:
        """List the tickets that earlier passes could not, wherever they are now."""
        for ticket_id in self._increment.owed:
            if self._receiver.stopping:
                return
            try:
                ticket = await self._task.resolve(ticket_id)
            except SourceError as error:
                raise_if_final(error, SourceUnreachable)
                self._listing.unlisted[ticket_id] = str(error)
            else:
                if ticket is not None:
                    await self._receiver.take(ticket)
        await self._receiver.settle()

    async def _meet_all(self) -> None:
        """Walk until every row of the list was met.

        Tickets that become active meanwhile push rows down, and Kayako sorts those of one second
        arbitrarily: a page may repeat rows of the last one and leave others out. Larger pages
        help; otherwise the order by ticket id has no ties.
        """
        try:
            for look in range(self._task.looks):
                rows = await self._look(self._task.page_of(look))
                met = len(self._met) + self._listing.unreadable.rows
                if self._receiver.stopping or met >= rows or self._listing.unreadable.endless:
                    return
            text = "the list by last activity leaves tickets out"
        except OutOfOrderError:
            text = "the source does not sort by last activity"
        self._receiver.tell(Notice(f"{text}: walking all tickets by id"))
        await self._walk_by_id()

    async def _look(self, page_size: int) -> int:
        """Walk down to the floor once; return the number of rows above it."""
        task, listing, floor = self._task, self._listing, self._increment.floor
        listing.unreadable.clear()  # a row may be readable by now
        task.helpdesk.note(listing.unreadable)
        if self._until is None and len(_lists(task)) > 1:
            self._until = await settled_until(task)  # the first list may be quiet
        rows = Rows(floor)
        pages = Pages(
            task.client, page_size, listing.unreadable, order=newest_first(floor), watch=rows
        )
        met: set[int] = set()
        for area in task.helpdesk.areas(task.scope):
            rows.next_area()
            await self._meet_active(pages.walk(area, met))
            if self._until is None:  # from the very first page: what changes later is newer
                self._until = _latest(rows.first or [], listing.started)
        await self._receiver.settle()
        if not self._receiver.stopping:
            rows.conclude()
            if not rows.any:
                await self._doubt_emptiness()
        return rows.count

    async def _meet_active(self, tickets: AsyncIterator[Ticket]) -> None:
        """Pass on the tickets that were active since the floor.

        This includes tickets of unknown activity among them; those at the end are left to the
        whole listing.
        """
        unknown: list[Ticket] = []
        async for ticket in tickets:
            if self._receiver.stopping:
                break
            if not ticket.last_activity:
                unknown.append(ticket)
            elif ticket.last_activity >= self._increment.floor:
                for one in (*unknown, ticket):
                    await self._meet(one)
                unknown = []

    async def _doubt_emptiness(self) -> None:
        """Request the count when the source lists no ticket, in case that is an error."""
        if short := await self._task.count():
            self._listing.short = short
            self._task.warn(f"the source counts {short:,} tickets but lists none; run again")

    async def _walk_by_id(self) -> None:
        task, listing, latest = self._task, self._listing, 0
        listing.unreadable.clear()
        floor = max(self._increment.floor, 0)
        scope = Scope(since=floor, include_trash=task.scope.include_trash)
        async for ticket in walk(
            task.client,
            task.helpdesk,
            scope,
            page_size=task.page_size,
            unreadable=listing.unreadable,
        ):
            if self._receiver.stopping:
                break
            latest = max(latest, ticket.last_activity)
            await self._meet(ticket)
        await self._receiver.settle()
        if self._until is None:  # an activity during this walk must not count as an earlier one
            self._until = min(latest, listing.started)

    async def _meet(self, ticket: Ticket) -> None:
        self._met.add(ticket.id)
        if self._listing.listed.get(ticket.id) != ticket.last_activity:
            await self._receiver.take(ticket)


class FastListing(_Listing):
    """Lists the tickets that are marked, and a few others.

    Falls back to :class:`WholeListing`, and says so, where the source does not sort by the mark or
    cannot count its tickets.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._walked: set[int] = set()
        self._facts = task.listing.preview = FastLook()

    async def _list(self) -> None:
        try:
            await self._look()
        except SourceError as error:
            raise_if_final(error, *OUTAGES)
            await self._fall_back(f"the sorted list cannot be had: {error}")

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
        """Return why a fast listing is impossible; "" if it is possible.

        A source without that sort order lists by id, as it does when all or none are marked.
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
        """Return the first row whose ticket has no attachments, found by bisection."""
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
        """List a sample of the tickets that are passed over, to estimate what is missed."""
        facts, left = self._facts, count - start
        if left <= 0:
            return
        facts.passed_over += left
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
        """List those tickets that are in scope; return those that have attachments."""
        for ticket in tickets:
            self._walked.add(ticket.id)
            known = self._listing.listed.get(ticket.id) == ticket.last_activity
            if self._in_scope(ticket) and not known:
                await self._receiver.take(ticket)
        await self._receiver.settle()
        return await self._receiver.count_files([one.id for one in tickets]) if tickets else {}

    def _in_scope(self, ticket: Ticket) -> bool:
        return not 0 < ticket.last_activity < self._task.scope.since
