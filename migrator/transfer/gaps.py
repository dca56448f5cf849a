"""Tickets that no list names: their department or status was deleted, and Kayako hides them.

Kayako lists tickets by department and status only, so what belongs to a row that is gone is in
no list and in no count, but answers under its id (read in the source of Kayako 4, where ids of
departments and statuses that do not exist are dropped from what was asked for). Most ids that no
list names are of deleted and merged tickets, which cost one light request each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from migrator.errors import Again, Interrupted, SourceError, UnexpectedReply
from migrator.events import Notice
from migrator.transfer.crew import Crew, Duty
from migrator.transfer.follow import follow
from migrator.transfer.result import MOST_GAPS
from migrator.transfer.walk import TRASH

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
        earlier = await duty.recorder.do(lambda: duty.ledger.not_listed_in(duty.result.run_id))
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
