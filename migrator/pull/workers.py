"""The workers of a run: some list tickets, some fetch attachments.

Both queues are bounded, so memory does not grow with the helpdesk, and lists wait for fetches
when those are slower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from migrator.archive.ledger import Ledger
from migrator.archive.queries import Queries
from migrator.archive.records import Listed, Recorded, State, Work
from migrator.archive.threads import Threads
from migrator.errors import Again, Interrupted, NotFound, PartialReply, SafetyLimit, SourceError
from migrator.events import AttachmentSettled, Listener, TicketListed
from migrator.pull.follow import follow
from migrator.pull.options import Fetch, RunOptions, RunResult, Stop
from migrator.pull.protocols import Source
from migrator.pull.recorder import Recorder
from migrator.pull.rows import listed_of, row_of
from migrator.pull.threads import ThreadReader
from migrator.sources.base import Attachment, Ticket


@dataclass(frozen=True, slots=True)
class Duty:
    """What everybody in a run works with."""

    source: Source
    ledger: Ledger
    queries: Queries
    threads: Threads
    recorder: Recorder
    fetch: Fetch
    options: RunOptions
    listener: Listener
    stop: Stop
    result: RunResult


class Crew:
    """List and fetch workers around two queues."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        size = duty.options.concurrency
        self._tickets: asyncio.Queue[Ticket] = asyncio.Queue(2 * size)
        self._work: asyncio.Queue[Work] = asyncio.Queue(4 * size)
        self._tried: set[int] = set()
        self._in_part: set[int] = set()
        """Tickets of whose lists a part was told in this run."""
        self.listed: dict[int, int] = {}
        """Tickets listed in this run, with the last activity that they had then."""
        self.threads = ThreadReader(duty, self.listed)
        self.merged: set[int] = set()
        """Tickets that were merged into others while this run walked."""
        self.absent: dict[int, str] = {}
        """Tickets that the source did not know when asked for their attachments, and its words."""

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have the workers work while the block runs; what stops one stops all."""
        size = self._duty.options.concurrency
        # No more than may be in flight: a kill costs each fetch worker one attachment at most.
        # While some of them wait for the disk, lists take their place at the source.
        jobs = [self._list_worker, self._fetch_worker] * size
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for work in jobs]
            yield
            for worker in workers:
                worker.cancel()

    async def list_ticket(self, ticket: Ticket) -> None:
        """Queue a ticket whose attachments want listing."""
        await self._tickets.put(ticket)

    async def fetch(self, work: Work) -> None:
        """Queue an attachment."""
        await self._work.put(work)

    async def idle(self) -> None:
        """Wait until all that was queued is done."""
        await self._tickets.join()
        await self._work.join()

    async def _list_worker(self) -> None:
        while True:
            ticket = await self._tickets.get()
            try:
                if not self._duty.stop.asked:
                    await self._list(ticket)
            except Interrupted:
                pass  # asked to stop between two tries: the ticket is listed again next time
            finally:
                self._tickets.task_done()

    async def _fetch_worker(self) -> None:
        while True:
            work = await self._work.get()
            try:
                if not self._duty.stop.asked:
                    await self._fetch(work)
            except Interrupted:
                pass  # asked to stop between two tries: the row stays as it is
            finally:
                self._work.task_done()

    async def _list(self, ticket: Ticket) -> None:
        found = await self._ask_list(ticket)
        if found is None:
            return
        first = ticket.id not in self.listed and ticket.id not in self._in_part
        if ticket.id not in self._duty.result.unlisted:
            self.listed[ticket.id] = ticket.last_activity
        else:
            self._in_part.add(ticket.id)
        await self._record(ticket, found, first=first, again=not first)
        claimed = await self.threads.read(ticket.id)
        # What a post says of its files may be out of date, and so may an empty list be.
        if claimed and not found and (found := await self._ask_list(ticket)):
            await self._record(ticket, found, first=first, again=True)

    async def _ask_list(self, ticket: Ticket) -> list[Attachment] | None:
        """Ask for the attachments of a ticket; None where they cannot be had, which is noted.

        So is a list of which only a part was understood: its rows are good, its end is unknown.
        """
        duty = self._duty
        started = time.monotonic()
        try:
            attachments = await duty.source.attachments(ticket.id)
        except NotFound as error:
            duty.result.unlisted.pop(ticket.id, None)  # deleted since the walk met it?
            self.absent[ticket.id] = str(error)
            return None
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            duty.result.unlisted[ticket.id] = str(error)
            return list(error.rows) if isinstance(error, PartialReply) else None
        duty.result.lists.add(started)
        duty.result.unlisted.pop(ticket.id, None)
        return attachments

    async def _record(
        self, ticket: Ticket, found: list[Attachment], *, first: bool, again: bool
    ) -> None:
        """Write a list down, and queue what of it wants fetching; ``again`` if that was told."""
        duty, row = self._duty, row_of(ticket)
        listed = [listed_of(one) for one in found]
        # What this run has looked for in vain is looked for again by the next one.
        recheck = duty.options.recheck and first

        async def record(items: list[Listed], *, follow: bool) -> Recorded:
            recorded = await duty.recorder.do(
                lambda: duty.ledger.record_ticket(
                    duty.result.run_id, row, items, recheck=recheck, follow=follow
                )
            )
            self._weigh(recorded)
            return recorded

        recorded = await record(listed, follow=True)
        todo = recorded.todo
        if moved := recorded.moved:
            for old in sorted(set(moved.values())):
                await self._follow(old)
            # Of a merged ticket they are here by now; of any other one they are fetched again.
            todo += (await record([one for one in listed if one.id in moved], follow=False)).todo
        todo = [work for work in todo if work.id not in self._tried]
        duty.listener(
            TicketListed(
                ticket.id,
                len(listed),
                len(todo),
                sum(one.declared_size for one in todo),
                again=again,
            )
        )
        for work in todo:
            await self._work.put(work)

    async def _follow(self, ticket_id: int) -> None:
        """See whether a ticket was merged; what cannot be told is no merge."""
        try:
            await follow(self._duty, ticket_id)
        except SourceError as error:
            if error.again is Again.STOP:
                raise

    def _weigh(self, recorded: Recorded) -> None:
        """Count what contradicts the ledger; raises SafetyLimit when it is too much."""
        result = self._duty.result
        result.again += recorded.again
        result.changed.update(recorded.changed)
        n, seen = len(result.changed), result.again + len(result.changed)
        if self._duty.options.changes.forbids(n, seen):
            result.contradicted = True
            raise SafetyLimit(
                f"the source lists {n:,} of {seen:,} attachments that we hold with another name, "
                "size, date or ticket than before, which Kayako never does. Is it another "
                "helpdesk, or one restored from a backup? What we hold is kept. If it is to be "
                "so, run again with --accept-changes"
            )

    async def _fetch(self, work: Work) -> None:
        duty = self._duty
        started = time.monotonic()
        tried = await duty.fetch(work)
        if tried is None:
            return
        outcome = tried.outcome
        if outcome.state is not State.STORED:
            self._tried.add(work.id)
        duty.result.fetches.add(started, tried.received)
        await duty.recorder.do(lambda: duty.ledger.settle(outcome))
        duty.listener(
            AttachmentSettled(
                work.id,
                outcome.ticket_id or work.ticket_id,
                outcome.state.value,
                outcome.problem,
                outcome.detail,
                received=tried.received,
                declared=work.declared_size,
                deduped=tried.deduped,
                since=work.failing_since,
                tried=work.attempts,
            )
        )
