"""Meeting every ticket: walk, look again until nothing moves, compare with the source's count."""

from __future__ import annotations

from migrator.errors import Again, Interrupted, SourceError
from migrator.events import Notice, TicketsCounted
from migrator.kayako.records import Ticket
from migrator.transfer.both import both
from migrator.transfer.crew import Crew, Duty
from migrator.transfer.follow import follow
from migrator.transfer.gaps import Gaps
from migrator.transfer.recent import ask_count, settled_until
from migrator.transfer.walk import Helpdesk, Scope, walk


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
