"""The end of a whole pass: find out about tickets and attachments that no list named.

A ticket that the ledger knows and that no list named may be merged, in the trash, deleted, or
beyond the lists; so may an attachment that we hold. Only the source's own 404, for the
ticket or for that very attachment, counts as a deletion, and too many at once count as a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from migrator.archive.records import Work
from migrator.errors import NotFound, SafetyLimit, SourceError, SourceUnreachable
from migrator.events import Notice
from migrator.pull.fetch import fetch_work
from migrator.pull.threads import row_of
from migrator.pull.workers import RunContext, Workers
from migrator.sources.base import for_each, raise_if_final

BATCH = 500
"""Rows read from the ledger at once."""


@dataclass(slots=True)
class _Whereabouts:
    """The source's answers about tickets that no list named."""

    deleted: set[int] = field(default_factory=set)
    trashed: set[int] = field(default_factory=set)
    listed: set[int] = field(default_factory=set)


async def reconcile(context: RunContext, workers: Workers) -> None:
    """Follow merges and mark deletions; raises SafetyLimit when there would be too many.

    Nothing is marked as deleted before all were requested, nor after a pass that did not list
    everything. The running workers list the tickets that are found.
    """
    if not context.result.proven:
        unseen, _ = await context.recorder.do(
            lambda: context.archive.queries.count_unseen(context.result.run_id),
        )
        if unseen:
            text = f"{unseen:,} unlisted stored attachments skipped: the listing was incomplete"
            context.listener(Notice(text, "warning"))
        return
    found = await _find_tickets(context, workers)
    await workers.settle()
    if not context.stop.asked:
        await _judge(context, found)


async def _find_tickets(context: RunContext, workers: Workers) -> _Whereabouts:
    found = _Whereabouts()
    unmet, run_id, after = context.archive.queries.unmet, context.result.run_id, 0
    while batch := await context.recorder.do(partial(unmet, run_id, after=after, limit=BATCH)):
        await for_each(
            batch,
            partial(_find, context, workers, found),
            workers=context.options.concurrency,
            stopping=lambda: context.stop.asked,
        )
        if context.stop.asked:
            break
        after = batch[-1]
    return found


async def _find(context: RunContext, workers: Workers, found: _Whereabouts, ticket_id: int) -> None:
    """Request one ticket; if that fails, request its attachments one by one."""
    try:
        ticket = await workers.resolve(ticket_id, in_no_list=True)
    except SourceError as error:
        raise_if_final(error, SourceUnreachable)
        return
    if ticket is None:
        found.deleted.add(ticket_id)
    elif ticket.in_trash and not context.options.scope.include_trash:
        found.trashed.add(ticket.id)
        await context.recorder.do(partial(context.archive.ledger.put_ticket, row_of(ticket)))
    elif ticket.id not in found.listed:
        found.listed.add(ticket.id)
        await workers.take(ticket)


async def _judge(context: RunContext, found: _Whereabouts) -> None:
    archive, do, run_id = context.archive, context.recorder.do, context.result.run_id
    _, stored = await do(lambda: archive.queries.count_unseen(run_id))
    deleted: dict[int, str] = {}

    async def ask(work: Work) -> None:
        if (text := await _deletion(context, work)) is not None:
            deleted[work.id] = text

    after = 0
    while batch := await do(partial(archive.queries.unseen, run_id, after=after, limit=BATCH)):
        dropped = [work.id for work in batch if work.ticket_id in found.deleted]
        deleted |= dict.fromkeys(dropped, "the source deleted its ticket")
        known = found.deleted | found.trashed
        await for_each(
            [
                one
                for one in batch
                if one.ticket_id not in known
                and (one.kind == "post" or context.options.custom_fields)
            ],
            ask,
            workers=context.options.concurrency,
            stopping=lambda: context.stop.asked,
        )
        if context.stop.asked:
            return
        if context.options.deletions.forbids(len(deleted), stored):
            raise SafetyLimit(
                f"the source has deleted {len(deleted):,} or more of {stored:,} stored "
                "attachments; nothing was changed. If they were deleted on purpose, run again "
                "with --accept-deletions"
            )
        after = batch[-1].id

    def mark() -> None:
        for attachment_id, text in deleted.items():
            archive.ledger.mark_deleted(attachment_id, text)
        for ticket_id in found.deleted:
            archive.ledger.mark_ticket_deleted(ticket_id)

    await do(mark)
    context.result.deleted = len(deleted)


async def _deletion(context: RunContext, work: Work) -> str | None:
    """Return why an attachment counts as deleted, in the source's words, or None."""
    try:
        await fetch_work(context.source, work, _Probe)
    except NotFound as error:
        return f"the source deleted it: {error}"
    except SourceError as error:
        raise_if_final(error, SourceUnreachable)
    except _StillThereError:
        pass
    return None


class _StillThereError(Exception):
    """The source still has the bytes, which need not be read."""


class _Probe:
    """A sink that stops at the first bytes."""

    def write(self, _data: bytes, /) -> None:
        raise _StillThereError

    def abort(self) -> None:
        """Nothing was kept."""
