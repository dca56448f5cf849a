"""Tickets that no list names: their department or status was deleted, and Kayako hides them.

Kayako lists tickets by department and status only, so what belongs to a row that is gone is in
no list and in no count, but answers under its id (read in the source of Kayako 4, where ids of
departments and statuses that do not exist are dropped from what was asked for). Most ids that no
list names are of deleted and merged tickets, which cost one light request each.

Meeting every ticket: walk, look again until nothing moves, compare with the source's count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from migrator.errors import Again, Interrupted, SourceError, UnexpectedReply
from migrator.events import Notice, TicketsCounted
from migrator.pull.follow import follow
from migrator.pull.options import MOST_GAPS
from migrator.pull.recent import ask_count, settled_until
from migrator.pull.walk import TRASH, Helpdesk, Scope, both, walk
from migrator.pull.workers import Crew, Duty
from migrator.sources.base import Ticket

BEYOND = 10
"""Ids above the highest known one that must be of no ticket: the newest may be in no list, too."""

MOST_UNASKED = 10
"""Failures after which the others are not asked for: a check must not wear a server out."""


class Gaps:
    """Asks for the ids that neither a list nor the ledger knows, up to some above the highest."""

    def __init__(self, duty: Duty, crew: Crew) -> None:
        self._duty = duty
        self._crew = crew
        self._found = 0
        self._answered = 0
        self._failed: dict[int, str] = {}
        self._highest = self._farthest = 0

    async def ask(self, met: set[int]) -> None:
        """Have the tickets listed that answer, unless there are too many ids to ask for."""
        duty = self._duty
        known = await self._known_besides(met)
        highest = max(max(met, default=0), max(known, default=0))
        gaps = highest - len(met) - len(known)
        if duty.options.most_gaps is not None and gaps > duty.options.most_gaps:
            text = (
                f"{gaps:,} ticket ids are in no list: of deleted and merged tickets, and of any "
                "whose department or status was deleted; `migrator run --every-id` asks for each"
            )
            duty.listener(Notice(text))
            duty.result.unasked = gaps
            return
        self._highest, self._farthest = highest, highest + MOST_GAPS
        left = (number for number in self._ids() if not (number in met or number in known))
        async with asyncio.TaskGroup() as group:
            for _ in range(duty.options.concurrency):
                group.create_task(self._ask_each(left))
        await self._crew.idle()
        if self._found:
            text = (
                f"{self._found:,} tickets are in no list of the source, but were found by their id"
            )
            duty.listener(Notice(text))
        if not self._answered:  # nothing says that there is any ticket above
            self._failed = {key: text for key, text in self._failed.items() if key < highest}
        if self._failed:
            n = len(self._failed)
            text = f"{n:,} ticket ids that are in no list could not be asked for"
            duty.listener(Notice(text, "warning"))
            # after too many failures
            duty.result.unasked = sum(1 for number in left if number < highest)
            if self._answered:  # it is these tickets that cannot be shown
                duty.result.unlisted |= self._failed
            else:  # the source has no word for a ticket that is not there
                duty.result.unasked += n

    def _ids(self) -> Iterator[int]:
        """Give all ids, and some more than the highest of which a ticket is known by then."""
        number = 0
        while (number := number + 1) <= min(self._highest + BEYOND, self._farthest):
            yield number

    async def _known_besides(self, met: set[int]) -> set[int]:
        """Give the tickets that are known without having been met by the last walk."""
        duty, crew = self._duty, self._crew
        earlier = await duty.recorder.do(lambda: duty.queries.not_listed_in(duty.result.run_id))
        parts = (earlier, crew.listed, crew.merged, crew.absent, duty.result.unlisted)
        return {number for part in parts for number in part if number not in met}

    async def _ask_each(self, left: Iterator[int]) -> None:
        for number in left:
            if self._duty.stop.asked or len(self._failed) >= MOST_UNASKED:
                return
            try:
                await self._ask(number)
                self._answered += 1
            except Interrupted:
                return
            except SourceError as error:
                if error.again is Again.STOP:
                    raise
                if type(error) is UnexpectedReply:
                    self._answered += 1  # an empty list, where a server has no other word for it
                else:
                    self._failed[number] = f"it is in no list, and by its id: {error}"

    async def _ask(self, number: int) -> None:
        """Ask for one ticket; one in the trash stays there, unless the trash is wanted."""
        duty, crew = self._duty, self._crew
        ticket = await follow(duty, number, in_no_list=True)
        if ticket is not None and ticket.id == number:
            self._highest = max(self._highest, number)
        if ticket is None or ticket.id in crew.listed:
            return
        if ticket.department_id != TRASH or duty.options.scope.include_trash:
            self._found += 1
            await crew.list_ticket(ticket)


class Enumeration:
    """Feeds a crew with every ticket in scope.

    People work while we walk: tickets arrive, change, are merged or deleted. A walk is cheap
    beside the lists (one request for a page of tickets, one for each list), so it is repeated
    until it meets what the one before it met.
    """

    def __init__(self, duty: Duty, crew: Crew, helpdesk: Helpdesk) -> None:
        self._duty = duty
        self._crew = crew
        self._helpdesk = helpdesk
        self._met: set[int] = set()

    async def __call__(self) -> None:
        """Walk to the end, or to where the run was asked to stop."""
        try:
            await self._walk_until_still()
        except Interrupted:
            await self._crew.idle()

    async def _walk_until_still(self) -> None:
        duty = self._duty
        until = await self._look_ahead()
        met = 0
        for look in range(duty.options.looks):
            met, moved = await self._look(look)
            if duty.stop.asked or not duty.options.scope.whole:
                return
            if look:
                moved += await self._follow_vanished()
            if not moved and (met or look):  # an empty list may be a slip of the source
                break
        await self._settle_absent()
        await Gaps(duty, self._crew).ask(self._met)
        await self._compare(met)
        if not duty.result.short:
            latest = min(duty.result.started, max(self._crew.listed.values(), default=0))
            duty.result.watermark = latest if until is None else until

    async def _look_ahead(self) -> int | None:
        """Count the tickets; give the activity until which a walk that begins now is sure."""
        duty = self._duty

        scope, result = duty.options.scope, duty.result

        async def count() -> None:
            result.total = result.helpdesk_tickets = await ask_count(duty, self._helpdesk)
            duty.listener(TicketsCounted(_walked(scope, result.total)))

        if not scope.whole:
            await count()
            if scope.departments is not None:
                everything = Scope(include_trash=scope.include_trash)
                result.helpdesk_tickets = await ask_count(duty, self._helpdesk, everything)
            return None
        _, until = await both(count(), settled_until(duty, self._helpdesk))
        return until

    async def _settle_absent(self) -> None:
        """Ask for tickets that the walk met and whose attachments were answered with 404.

        Deleted since is no gap; there all the same is a contradiction, and a gap.
        """
        duty, crew = self._duty, self._crew
        for ticket_id in sorted(self._met & (crew.absent.keys() - crew.listed.keys())):
            try:
                ticket = await follow(duty, ticket_id)
            except SourceError as error:
                if error.again is Again.STOP:
                    raise
                duty.result.unlisted[ticket_id] = str(error)
                continue
            if ticket is not None and ticket.id == ticket_id:
                duty.result.unlisted[ticket_id] = crew.absent[ticket_id]
            elif ticket is not None:
                await crew.list_ticket(ticket)
        await crew.idle()

    async def _look(self, look: int) -> tuple[int, int]:
        """Walk once; gives the tickets met and how many of them were new or changed."""
        duty, crew = self._duty, self._crew
        self._met = set()
        moved = 0
        duty.result.unreadable.clear()  # a row may be readable by now
        async for ticket in walk(
            duty.source,
            self._helpdesk,
            duty.options.scope,
            page_size=duty.options.page_of(look),
            unreadable=duty.result.unreadable,
        ):
            if duty.stop.asked:
                break
            self._met.add(ticket.id)
            if crew.listed.get(ticket.id) != ticket.last_activity:
                moved += ticket.id not in duty.result.unlisted
                await crew.list_ticket(ticket)
        await crew.idle()
        return len(self._met), moved

    async def _follow_vanished(self) -> int:
        """List the survivors of tickets that were merged while we walked."""
        survivors: dict[int, Ticket] = {}
        known = {*self._crew.listed, *self._crew.absent, *self._duty.result.unlisted}
        for ticket_id in sorted(known - self._met):
            if self._duty.stop.asked:
                break
            if (ticket := await self._survivor(ticket_id)) is not None:
                survivors[ticket.id] = ticket
        for ticket in survivors.values():
            await self._crew.list_ticket(ticket)
        await self._crew.idle()
        return len(survivors)

    async def _survivor(self, ticket_id: int) -> Ticket | None:
        """Give the ticket that this one was merged into, if it was."""
        duty, result = self._duty, self._duty.result
        try:
            ticket = await follow(duty, ticket_id, in_no_list=True)
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            result.unlisted[ticket_id] = str(error)
            return None
        if ticket is not None and ticket.id == ticket_id:
            return None  # still there, in the trash or out of the list for a moment
        if ticket is not None:
            self._crew.merged.add(ticket_id)
        self._crew.listed.pop(ticket_id, None)
        self._crew.absent.pop(ticket_id, None)
        result.unlisted.pop(ticket_id, None)
        return ticket

    async def _compare(self, met: int) -> None:
        """Compare the walk with the source's count, which is asked again when it contradicts."""
        duty = self._duty
        listed = met + duty.result.unreadable.rows
        total = await ask_count(duty, self._helpdesk)
        if total is not None and total != listed:
            total = await ask_count(duty, self._helpdesk)
        duty.result.helpdesk_tickets = total
        short = max(0, (total or 0) - listed)
        duty.result.short = short
        if short:
            text = (
                f"the source counts {total:,} tickets but lists only {met:,}; "
                "run again, and ask `migrator doctor` if it stays so"
            )
            duty.listener(Notice(text, "warning"))


def _walked(scope: Scope, total: int | None) -> int | None:
    """Tell how many of the tickets that the source counts are looked at; it counts all ages."""
    if total is None or scope.since:
        return None
    return min(total, scope.limit_tickets or total)
