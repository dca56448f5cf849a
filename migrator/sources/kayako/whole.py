"""Listing every ticket: walk, look again until nothing moves, compare with the source's count.

Then the tickets that no list names: their department or status was deleted, and Kayako hides them.
It lists tickets by department and status only, so what belongs to a row that is gone is in no list
and in no count, but answers under its id (read in the source of Kayako 4, where ids of departments
and statuses that do not exist are dropped from what was asked for). Most ids that no list names are
of deleted and merged tickets, which cost one light request each.
"""

from __future__ import annotations

from collections.abc import Iterator

from migrator.errors import Again, Interrupted, SourceError, UnexpectedReply
from migrator.events import Notice, TicketsCounted
from migrator.sources.base import Scope, Ticket, concurrently, for_each
from migrator.sources.kayako.recent import settled_until
from migrator.sources.kayako.tickets import Task
from migrator.sources.kayako.walk import walk

BEYOND = 10
"""Ids above the highest known one that must be of no ticket: the newest may be in no list, too."""

FARTHEST = 1000
"""Ids above the highest known one that are asked for at most."""

MOST_UNASKED = 10
"""Failures after which the others are not asked for: a check must not wear a server out."""


class Gaps:
    """Asks for the ids that neither a list nor the archive knows, up to some above the highest."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._found = 0
        self._answered = 0
        self._failed: dict[int, str] = {}
        self._highest = self._farthest = 0

    async def ask(self, met: set[int]) -> None:
        """Have the tickets listed that answer, unless there are too many ids to ask for."""
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
            text = (
                f"{self._found:,} tickets are in no list of the source, but were found by their id"
            )
            task.receiver.tell(Notice(text))
        if not self._answered:  # nothing says that there is any ticket above
            self._failed = {key: text for key, text in self._failed.items() if key < highest}
        if self._failed:
            n = len(self._failed)
            task.warn(f"{n:,} ticket ids that are in no list could not be asked for")
            # after too many failures
            listing.unasked = sum(1 for number in left if number < highest)
            if self._answered:  # it is these tickets that cannot be shown
                listing.unlisted |= self._failed
            else:  # the source has no word for a ticket that is not there
                listing.unasked += n

    def _ended(self) -> bool:
        return self._task.receiver.stopping or len(self._failed) >= MOST_UNASKED

    def _ids(self) -> Iterator[int]:
        """Yield all ids, and some more than the highest of which a ticket is known by then."""
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
            pass  # the run is to stop: no other is begun
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            if type(error) is UnexpectedReply:
                self._answered += 1  # an empty list, where a server has no other word for it
            else:
                self._failed[number] = f"it is in no list, and by its id: {error}"

    async def _list(self, number: int) -> None:
        """Have one ticket listed; one in the trash stays there, unless the trash is wanted."""
        task = self._task
        ticket = await task.follow(number, in_no_list=True)
        if ticket is not None and ticket.id == number:
            self._highest = max(self._highest, number)
        if ticket is None or ticket.id in task.listing.listed:
            return
        if not ticket.in_trash or task.scope.include_trash:
            self._found += 1
            await task.receiver.take(ticket)


class WholeListing:
    """Lists every ticket in scope.

    People work while we walk: tickets arrive, change, are merged or deleted. A walk is cheap
    beside the lists (one request for a page of tickets, one for each list), so it is repeated
    until it meets what the one before it met.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._receiver = task.receiver
        self._listing = task.listing
        self._met: set[int] = set()

    async def __call__(self) -> None:
        """Walk to the end, or to where the run was asked to stop."""
        try:
            await self._walk_until_still()
        except Interrupted:
            await self._receiver.settle()

    async def _walk_until_still(self) -> None:
        task, listing = self._task, self._listing
        until = await self._look_ahead()
        met = 0
        for look in range(task.looks):
            met, moved = await self._look(look)
            if self._receiver.stopping or not task.scope.whole:
                return
            if look:
                moved += await self._follow_vanished()
            if not moved and (met or look):  # an empty list may be a slip of the source
                break
        await self._settle_absent()
        await Gaps(task).ask(self._met)
        await self._compare(met)
        if not listing.short:
            latest = min(listing.started, max(listing.listed.values(), default=0))
            listing.watermark = latest if until is None else until

    async def _look_ahead(self) -> int | None:
        """Count the tickets; return the activity until which a walk that begins now is sure."""
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
        """Ask for tickets that the walk met and whose attachments were answered with 404.

        Deleted since is no gap; there all the same is a contradiction, and a gap.
        """
        listing = self._listing
        for ticket_id in sorted(self._met & (listing.absent.keys() - listing.listed.keys())):
            try:
                ticket = await self._task.follow(ticket_id)
            except SourceError as error:
                if error.again is Again.STOP:
                    raise
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
        """List the survivors of tickets that were merged while we walked."""
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
            ticket = await self._task.follow(ticket_id, in_no_list=True)
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            listing.unlisted[ticket_id] = str(error)
            return None
        if ticket is not None and ticket.id == ticket_id:
            return None  # still there, in the trash or out of the list for a moment
        if ticket is not None:
            listing.merged.add(ticket_id)
        listing.listed.pop(ticket_id, None)
        listing.absent.pop(ticket_id, None)
        listing.unlisted.pop(ticket_id, None)
        return ticket

    async def _compare(self, met: int) -> None:
        """Compare the walk with the source's count, which is asked again when it contradicts."""
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
    """Return how many of the tickets that the source counts are looked at; it counts all ages."""
    if total is None or scope.since:
        return None
    return min(total, scope.limit_tickets or total)
