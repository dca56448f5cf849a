"""The workers of a run: some list tickets, some fetch attachments.

Both queues are bounded, so memory does not grow with the helpdesk, and lists wait for fetches
when those are slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar
from weakref import WeakValueDictionary

from migrator.archive import Archive
from migrator.archive.records import Listed, Outcome, Recorded, State, TicketRow, Work
from migrator.errors import Interrupted, NotFound, PartialReply, SafetyLimit, SourceError
from migrator.events import AttachmentSettled, Event, LeftoversQueued, Listener, TicketListed
from migrator.pull.links import LinkReader
from migrator.pull.options import Fetch, RunOptions, RunResult, Stop
from migrator.pull.recorder import Recorder
from migrator.pull.threads import FieldReader, ThreadReader, listed_of, row_of
from migrator.sources.base import Attachment, Listing, Source, Ticket, raise_if_final

T = TypeVar("T")
MOST_LINKED = 4096
"""Linked files whose outcome is known for other tickets that link to them."""
_REFUSED = {"bad_request", "too_large", "unexpected_reply"}
"""Problems of a linked file that another try in the same run would not solve."""
_Recording = Callable[[list[tuple[TicketRow, Sequence[Listed]]]], list[Recorded]]


@dataclass(frozen=True, slots=True)
class RunContext:
    """Shared state of one run."""

    source: Source
    archive: Archive
    recorder: Recorder
    fetch: Fetch
    options: RunOptions
    listener: Listener
    stop: Stop
    result: RunResult
    pool: Executor | None = None


class Workers:
    """Workers that list and workers that fetch, around two queues: the receiver of a listing."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.listing: Listing = context.result
        size = context.options.concurrency
        self._tickets: asyncio.Queue[Ticket] = asyncio.Queue(2 * size)
        self._work: asyncio.Queue[Work] = asyncio.Queue(4 * size)
        self._tried: set[int] = set()
        self._recording = cache(self._recording_of)
        self._linked: dict[str, Outcome] = {}
        self._in_flight = WeakValueDictionary[str, asyncio.Lock]()
        self._in_part: set[int] = set()
        """Tickets whose lists were only partly readable in this run."""
        self.links = LinkReader(context, self.fetch)
        self.threads = ThreadReader(context, self.links)
        self.fields = FieldReader(context, self.links, self._weigh)

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._context.stop.asked

    def tell(self, event: Event, /) -> None:
        """Pass an event to the run's listener."""
        self._context.listener(event)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Run the workers during the block; an error of one stops all."""
        size = self._context.options.concurrency
        # No more than may be in flight: a kill costs each fetch worker one attachment at most.
        # While some of them wait for the disk, lists take their place at the source.
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(work)
                for _ in range(size)
                for work in (
                    self._work_off(self._tickets, self._list),
                    self._work_off(self._work, self._fetch),
                )
            ]
            yield
            for worker in workers:
                worker.cancel()

    async def take(self, ticket: Ticket, /) -> None:
        """Queue a ticket whose attachments are to be listed."""
        await self._tickets.put(ticket)

    async def fetch(self, work: Work) -> None:
        """Queue an attachment."""
        await self._work.put(work)

    def untried(self, works: Iterable[Work]) -> list[Work]:
        """Return the attachments that this run has not tried in vain."""
        return [work for work in works if work.id not in self._tried]

    async def take_files(self, listed: Sequence[Listed]) -> None:
        """Record files that belong to no post, and queue what is to be fetched."""
        context = self._context
        record = partial(context.archive.ledger.record_files, context.result.run_id, listed)
        recorded = await context.recorder.do(partial(record, recheck=context.options.recheck))
        self._weigh(recorded)
        if todo := self.untried(recorded.todo):
            context.listener(LeftoversQueued(len(todo), sum(one.declared_size for one in todo)))
        for work in todo:
            await self._work.put(work)

    async def settle(self) -> None:
        """Wait until all that was queued is done."""
        await self._tickets.join()
        await self._work.join()

    async def merge(self, ticket_id: int, survivor: Ticket, /) -> None:
        """Record that a ticket was merged: its attachments are the other's now."""
        do, ledger = self._context.recorder.do, self._context.archive.ledger
        await do(partial(ledger.put_ticket, row_of(survivor)))
        await do(partial(ledger.mark_merged, ticket_id, survivor.id))

    async def resolve(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return the current ticket, after recording a merge; None if deleted."""
        ticket = await self._context.source.locate(ticket_id, in_no_list=in_no_list)
        if ticket is not None and ticket.id != ticket_id:
            await self.merge(ticket_id, ticket)
        return ticket

    async def known_tickets(self) -> list[int]:
        """Return the tickets of the archive that this run has not listed."""
        context = self._context
        return await context.recorder.do(
            lambda: context.archive.queries.not_listed_in(context.result.run_id)
        )

    async def count_files(self, ticket_ids: Collection[int], /) -> dict[int, int]:
        """Return the numbers of attachments of a few tickets; leave out those without."""
        return await self._context.recorder.do(
            lambda: self._context.archive.queries.with_files(ticket_ids)
        )

    async def attachments(self, ticket: Ticket, /) -> list[Attachment]:
        """List the attachments of a ticket that is not in scope, as far as they can be read."""
        try:
            return await self._context.source.attachments(ticket)
        except PartialReply as error:
            return list(error.rows)

    async def _work_off(
        self, queue: asyncio.Queue[T], work: Callable[[T], Awaitable[None]]
    ) -> None:
        """Work through the queue; once asked to stop, leave the rest for the next run."""
        while True:
            item = await queue.get()
            try:
                if not self.stopping:
                    await work(item)
            except Interrupted:
                pass  # asked to stop between two tries
            finally:
                queue.task_done()

    async def _list(self, ticket: Ticket) -> None:
        found = await self._ask_list(ticket)
        if found is None:
            return
        first = ticket.id not in self.listing.listed and ticket.id not in self._in_part
        if ticket.id not in self._context.result.unlisted:
            self.listing.listed[ticket.id] = ticket.last_activity
        else:
            self._in_part.add(ticket.id)
        await self._record(ticket, found, first=first, again=not first)
        claimed = await self.threads.read(ticket)
        # A post's mark of attachments may be out of date, and so may an empty list.
        if claimed and not found and (found := await self._ask_list(ticket)):
            await self._record(ticket, found, first=first, again=True)
        await self.fields.read(ticket.id)

    async def _ask_list(self, ticket: Ticket) -> list[Attachment] | None:
        """Return the attachments of a ticket; None where they cannot be listed, which is recorded.

        So is a partly readable list: its rows are good, the rest is unknown.
        """
        context = self._context
        try:
            attachments = await context.source.attachments(ticket)
        except NotFound as error:
            context.result.unlisted.pop(ticket.id, None)  # deleted since the walk met it?
            self.listing.absent[ticket.id] = error.reason
            return None
        except SourceError as error:
            raise_if_final(error)
            context.result.unlisted[ticket.id] = error.reason
            return list(error.rows) if isinstance(error, PartialReply) else None
        context.result.unlisted.pop(ticket.id, None)
        return attachments

    async def _record(
        self, ticket: Ticket, found: list[Attachment], *, first: bool, again: bool
    ) -> None:
        """Record a list and queue what is to be fetched; ``again``: the ticket was met before."""
        context, row = self._context, row_of(ticket)
        listed = [listed_of(one) for one in found]
        # The next run looks again for what this one did not find.
        recheck = context.options.recheck and first

        async def record(items: Sequence[Listed], *, follow: bool) -> Recorded:
            operation = self._recording(recheck=recheck, follow=follow)
            recorded = await context.recorder.do_jointly(operation, (row, items))
            self._weigh(recorded)
            return recorded

        recorded = await record(listed, follow=True)
        todo = recorded.todo
        if moved := recorded.moved:
            for old in sorted(set(moved.values())):
                await self._note_merge(old)
            # Of a merged ticket they are here by now; of any other one they are fetched again.
            todo += (await record([one for one in listed if one.id in moved], follow=False)).todo
        todo = self.untried(todo)
        context.listener(
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

    def _recording_of(self, *, recheck: bool, follow: bool) -> _Recording:
        """Return the operation that records lists, the same one for equal options."""
        run_id, ledger = self._context.result.run_id, self._context.archive.ledger
        return partial(ledger.record_tickets, run_id, recheck=recheck, follow=follow)

    async def _note_merge(self, ticket_id: int) -> None:
        """Record a merge of the ticket, if any; an error leaves it unknown."""
        try:
            await self.resolve(ticket_id)
        except SourceError as error:
            raise_if_final(error)

    def _weigh(self, recorded: Recorded) -> None:
        """Count contradictions to the ledger; raises SafetyLimit when there are too many."""
        result = self._context.result
        result.again += recorded.again
        result.changed.update(recorded.changed)
        n, seen = len(result.changed), result.again + len(result.changed)
        if self._context.options.changes.forbids(n, seen):
            result.contradicted = True
            raise SafetyLimit(
                f"the source lists {n:,} of {seen:,} attachments that we hold with another name, "
                "size, date or ticket than before, which Kayako never does. Is it another "
                "helpdesk, or one restored from a backup? What we hold is kept. If this is "
                "right, run again with --accept-changes"
            )

    async def _fetch_linked(self, work: Work) -> Outcome | None:
        """Fetch a file that texts link to, once for all tickets: a logo may be in each reply."""
        async with self._in_flight.setdefault(work.place, asyncio.Lock()):
            if (known := self._linked.pop(work.place, None)) is not None:
                self._linked[work.place] = known
                return replace(
                    known, attachment_id=work.id, work=work, attempts=0, received=0, deduped=True
                )
            outcome = await self._context.fetch(work)
            if outcome and (outcome.state is not State.FAILED or outcome.problem in _REFUSED):
                self._linked[work.place] = outcome
                if len(self._linked) > MOST_LINKED:
                    del self._linked[next(iter(self._linked))]
            return outcome

    async def _fetch(self, work: Work) -> None:
        context = self._context
        outcome = await (self._fetch_linked(work) if work.kind == "linked" else context.fetch(work))
        if outcome is None:
            return
        if outcome.state is not State.STORED:
            self._tried.add(work.id)
        await context.recorder.do_jointly(context.archive.ledger.settle_many, outcome)
        context.listener(
            AttachmentSettled(
                work.id,
                outcome.ticket_id or work.ticket_id,
                outcome.state.value,
                outcome.problem,
                outcome.detail,
                received=outcome.received,
                declared=work.declared_size,
                deduped=outcome.deduped,
                since=work.failing_since,
                tried=work.attempts,
            )
        )
