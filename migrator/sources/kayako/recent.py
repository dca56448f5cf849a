"""Meeting what is new: the tickets that were active last, down to where an earlier pass was.

Kayako has no "changed since" filter, but it sorts by last activity. Only its second is known of an
activity, many tickets may share one, and people work while we walk; so the range is closed, and a
walk counts the rows of the list that it went through against the tickets that it met there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf

from migrator.errors import Again, Interrupted, SourceError, SourceUnreachable
from migrator.events import Notice
from migrator.sources.base import TRASH, Increment, Scope, Ticket
from migrator.sources.kayako.tickets import Task
from migrator.sources.kayako.walk import Area, Order, Pages, is_outage, page_of, walk

ENOUGH = 10
"""Tickets that show how a list is sorted."""


async def settled_until(task: Task) -> int | None:
    """Return the newest activity that a pass beginning now is sure to see, in the source's seconds.

    None when the source cannot sort by activity, or did not answer: that alone ends no run.
    """
    order = newest_first(0)
    count = max(task.page_size, ENOUGH)
    try:
        pages = [
            await page_of(task.client, area, 0, count, sort=order.sort, order=order.direction)
            for area in _lists(task)
        ]
    except SourceError as error:
        if is_outage(error):
            raise
        return None
    if not all(map(_in_order, pages)) or (any(pages) and not any(map(sorts, filter(None, pages)))):
        return None
    return max((_latest(page, task.listing.started) for page in pages), default=0)


def _lists(task: Task) -> list[Area]:
    """Return the lists in which work goes on: the trash is none of them."""
    areas = task.helpdesk.areas(task.scope)
    return [area for area in areas if area.department_ids != (TRASH,)]


def newest_first(floor: int) -> Order:
    """Return the order of a list whose rows below ``floor`` are of no interest.

    An activity of 0 is unknown: such a row may stand anywhere.
    """
    return Order(
        "lastactivity",
        "DESC",
        lambda ticket: -ticket.last_activity or -inf,
        lambda ticket: 0 < ticket.last_activity < floor,
    )


def sorts(page: list[Ticket]) -> bool:
    """Return from the first rows of a list whether the source sorts by activity at all.

    Old versions do not, and list by id; so rows that may be in either order prove nothing.
    """
    ids = [ticket.id for ticket in page]
    return _in_order(page) and (not ids or ids != sorted(ids))


def _in_order(page: list[Ticket]) -> bool:
    stamps = [ticket.last_activity for ticket in page if ticket.last_activity]
    return stamps == sorted(stamps, reverse=True)


def _latest(page: list[Ticket], now: int) -> int:
    """Return the newest activity of a page, but none that our clock has not reached.

    One ticket from the future, however it got its date, would hide all that changes until then.
    """
    stamps = [ticket.last_activity for ticket in page]
    return max((one for one in stamps if one <= now), default=now if stamps else 0)


class OutOfOrderError(Exception):
    """The source does not sort by last activity."""


class Rows:
    """Watches the pages of one walk: their order, and how many rows of interest the list has."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._before = 0
        self._here = 0
        self._head: dict[int, Ticket] = {}
        self._sorted = False
        self.first: list[Ticket] | None = None
        self.any = False
        """Whether there is a row at all."""

    @property
    def count(self) -> int:
        """Rows at or above the floor, over all areas."""
        return self._before + self._here

    def next_area(self) -> None:
        """Begin another list."""
        self._before, self._here = self.count, 0
        self._head = {}

    def conclude(self) -> None:
        """Raise OutOfOrderError after a walk that has not shown how its list is sorted."""
        if self.any and not self._sorted:
            raise OutOfOrderError

    def __call__(self, start: int, page: list[Ticket]) -> None:
        """Take note of one page; raises OutOfOrderError."""
        if not _in_order(page):
            raise OutOfOrderError
        if self.first is None:
            self.first = page
        self.any = self.any or bool(page)
        if not self._sorted:  # a page around a row that nobody can read may hold one row only
            self._head |= {ticket.id: ticket for ticket in page if ticket.id not in self._head}
            self._sorted = sorts(list(self._head.values()))
        wanted = [ticket.last_activity >= self._floor for ticket in page]
        if any(wanted):  # rows of an unknown activity may stand among them
            self._here = max(self._here, start + len(page) - wanted[::-1].index(True))


class RecentListing:
    """Lists every ticket that was active since the floor, and those owed."""

    def __init__(self, task: Task, increment: Increment) -> None:
        self._task = task
        self._receiver = task.receiver
        self._listing = task.listing
        self._increment = increment
        self._met: set[int] = set()
        self._until: int | None = None

    async def __call__(self) -> None:
        """Walk to the floor, or to where the run was asked to stop."""
        unreadable = self._listing.unreadable
        try:
            await self._ask_owed()
            await self._meet_all()
        except Interrupted:
            await self._receiver.settle()
        else:
            if not unreadable and not self._receiver.stopping:
                self._listing.watermark = self._until
        for row, text in self._increment.unreadable.items():
            unreadable.setdefault(row, text)

    async def _ask_owed(self) -> None:
        """List what earlier passes could not, wherever it is by now."""
        for ticket_id in self._increment.owed:
            if self._receiver.stopping:
                return
            try:
                ticket = await self._task.follow(ticket_id)
            except SourceError as error:
                if error.again is Again.STOP or isinstance(error, SourceUnreachable):
                    raise
                self._listing.unlisted[ticket_id] = str(error)
            else:
                if ticket is not None:
                    await self._receiver.take(ticket)
        await self._receiver.settle()

    async def _meet_all(self) -> None:
        """Walk until the list holds no row whose ticket was not met.

        Tickets that become active meanwhile push rows down, and Kayako sorts those of one second
        as it likes: a page may repeat rows of the last one and leave others out. Larger pages
        help; where they do not, the order by ticket id has no ties.
        """
        try:
            for look in range(self._task.looks):
                rows = await self._look(self._task.page_of(look))
                met = len(self._met) + self._listing.unreadable.rows
                if self._receiver.stopping or met >= rows:
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
            if self._until is None:  # of the first page of all: what changes later is newer
                self._until = _latest(rows.first or [], listing.started)
        await self._receiver.settle()
        if not self._receiver.stopping:
            rows.conclude()
            if not rows.any:
                await self._doubt_emptiness()
        return rows.count

    async def _meet_active(self, tickets: AsyncIterator[Ticket]) -> None:
        """Have those listed that were active since the floor, and of unknown activity among them.

        Tickets that never were active come last, and are left to the whole pass.
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
        """Have the source count its tickets when it lists none: a slip must not pass for quiet."""
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
        if self._until is None:  # an activity during this walk must not pass for an earlier one
            self._until = min(latest, listing.started)

    async def _meet(self, ticket: Ticket) -> None:
        self._met.add(ticket.id)
        if self._listing.listed.get(ticket.id) != ticket.last_activity:
            await self._receiver.take(ticket)
