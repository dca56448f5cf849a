"""After a whole pass: what became of that which no list named.

A ticket that the ledger knows and that no list named may be merged, in the trash, deleted, or out
of the reach of the lists; so may be an attachment that we hold. Only the source's own 404, for the
ticket or for that very attachment, counts as a deletion, and too many at once count as a fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from migrator.archive.records import Work
from migrator.errors import Again, NotFound, SafetyLimit, SourceError, SourceUnreachable
from migrator.events import Notice
from migrator.pull.follow import follow
from migrator.pull.rows import row_of
from migrator.pull.walk import TRASH
from migrator.pull.workers import Crew, Duty

BATCH = 500
"""Rows read from the ledger at once."""

T = TypeVar("T")


@dataclass(slots=True)
class _Whereabouts:
    """What the source said of the tickets that no list named."""

    deleted: set[int] = field(default_factory=set)
    trashed: set[int] = field(default_factory=set)
    listed: set[int] = field(default_factory=set)


async def reconcile(duty: Duty, crew: Crew) -> None:
    """Follow what moved and mark what is deleted; raises SafetyLimit when that would be too much.

    Nothing is marked as deleted before all were asked for, nor after a pass that did not list
    everything. The crew, which is at work, lists the tickets that are found.
    """
    if not duty.result.proven:
        unseen, _ = await duty.recorder.do(
            lambda: duty.queries.count_unseen(duty.result.run_id),
        )
        if unseen:
            text = f"{unseen:,} stored attachments were not listed; not judged, the lists had gaps"
            duty.listener(Notice(text, "warning"))
        return
    found = await _find_tickets(duty, crew)
    await crew.idle()
    if not duty.stop.asked:
        await _judge(duty, found)


async def _find_tickets(duty: Duty, crew: Crew) -> _Whereabouts:
    found = _Whereabouts()
    unmet, run_id, after = duty.queries.unmet, duty.result.run_id, 0
    while batch := await duty.recorder.do(partial(unmet, run_id, after=after, limit=BATCH)):
        await _side_by_side(duty, batch, partial(_find, duty, crew, found))
        if duty.stop.asked:
            break
        after = batch[-1]
    return found


async def _find(duty: Duty, crew: Crew, found: _Whereabouts, ticket_id: int) -> None:
    """Ask for one ticket; what cannot be told is left to the questions for its attachments."""
    try:
        ticket = await follow(duty, ticket_id, in_no_list=True)
    except SourceError as error:
        _raise_if_vain(error)
        return
    if ticket is None:
        found.deleted.add(ticket_id)
    elif ticket.department_id == TRASH and not duty.options.scope.include_trash:
        found.trashed.add(ticket.id)
        await duty.recorder.do(partial(duty.ledger.put_ticket, row_of(ticket)))
    elif ticket.id not in found.listed:
        found.listed.add(ticket.id)
        await crew.list_ticket(ticket)


async def _judge(duty: Duty, found: _Whereabouts) -> None:
    ledger, do, run_id = duty.ledger, duty.recorder.do, duty.result.run_id
    _, stored = await do(lambda: duty.queries.count_unseen(run_id))
    deleted: dict[int, str] = {}

    async def ask(work: Work) -> None:
        if (text := await _deletion(duty, work)) is not None:
            deleted[work.id] = text

    after = 0
    while batch := await do(partial(duty.queries.unseen, run_id, after=after, limit=BATCH)):
        dropped = [work.id for work in batch if work.ticket_id in found.deleted]
        deleted |= dict.fromkeys(dropped, "the source deleted its ticket")
        known = found.deleted | found.trashed
        await _side_by_side(duty, [one for one in batch if one.ticket_id not in known], ask)
        if duty.stop.asked:
            return
        if duty.options.deletions.forbids(len(deleted), stored):
            raise SafetyLimit(
                f"the source has deleted {len(deleted):,} or more of {stored:,} stored "
                "attachments; nothing was changed. If they were deleted on purpose, run again "
                "with --accept-deletions"
            )
        after = batch[-1].id

    def mark() -> None:
        for attachment_id, text in deleted.items():
            ledger.mark_deleted(attachment_id, text)
        for ticket_id in found.deleted:
            ledger.mark_ticket_deleted(ticket_id)

    await do(mark)
    duty.result.deleted = len(deleted)


async def _side_by_side(
    duty: Duty, items: Iterable[T], ask: Callable[[T], Awaitable[None]]
) -> None:
    """Ask for each item, as many at the same time as the run has requests in flight."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            if duty.stop.asked:
                return
            await ask(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(duty.options.concurrency):
            group.create_task(work())


async def _deletion(duty: Duty, work: Work) -> str | None:
    """Give the source's word that an attachment is deleted; None without it."""
    try:
        await duty.source.fetch(work.ticket_id, work.id, _Probe)
    except NotFound as error:
        return f"the source deleted it: {error}"
    except SourceError as error:
        _raise_if_vain(error)
    except _StillThereError:
        pass
    return None


def _raise_if_vain(error: SourceError) -> None:
    """Raise an error after which no other question will be answered either."""
    if error.again is Again.STOP or isinstance(error, SourceUnreachable):
        raise error


class _StillThereError(Exception):
    """The source still has the bytes; there is no need to read them."""


class _Probe:
    """A sink that wants to know only whether bytes come at all."""

    def write(self, _data: bytes, /) -> None:
        raise _StillThereError

    def abort(self) -> None:
        """Nothing was kept."""
