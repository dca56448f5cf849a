"""After a whole pass: what the source no longer lists.

An attachment that we hold and that no list named any more may be deleted, in the trash, or
hidden by a list that lied. Only the source's own 404 for that very attachment counts as a
deletion, and too many at once count as a fault.
"""

from __future__ import annotations

import asyncio
from functools import partial

from migrator.archive.records import Work
from migrator.errors import Again, NotFound, SafetyLimit, SourceError, SourceUnreachable
from migrator.events import Notice
from migrator.transfer.crew import Duty

BATCH = 500
"""Rows read from the ledger at once."""


async def reconcile(duty: Duty) -> None:
    """Mark what the source has deleted; raises SafetyLimit when that would be too much.

    Nothing is marked before all were asked for, nor after a pass that did not list everything.
    """
    ledger, do, run_id = duty.ledger, duty.recorder.do, duty.result.run_id
    unseen, stored = await do(lambda: ledger.count_unseen(run_id))
    if not unseen:
        return
    if not duty.result.proven:
        text = f"{unseen:,} stored attachments were not listed; not judged, the lists had gaps"
        duty.listener(Notice(text, "warning"))
        return
    deleted: dict[int, str] = {}
    after = 0
    while batch := await do(partial(ledger.unseen, run_id, after=after, limit=BATCH)):
        deleted |= await _deleted_of(duty, batch)
        if duty.stop.asked:
            return
        if duty.options.deletions.forbids(len(deleted), stored):
            raise SafetyLimit(
                f"the source has deleted {len(deleted):,} or more of {stored:,} stored "
                "attachments; nothing was changed. If they were deleted on purpose, run again "
                "with --accept-deletions"
            )
        after = batch[-1].id
    await do(lambda: [ledger.mark_deleted(*one) for one in deleted.items()])
    duty.result.deleted = len(deleted)


async def _deleted_of(duty: Duty, batch: list[Work]) -> dict[int, str]:
    """Ask for each attachment, a few at the same time; give the deleted ones and why."""
    left, deleted = iter(batch), dict[int, str]()

    async def ask() -> None:
        for work in left:
            if duty.stop.asked:
                return
            if (text := await _deletion(duty, work)) is not None:
                deleted[work.id] = text

    async with asyncio.TaskGroup() as group:
        for _ in range(duty.options.concurrency):
            group.create_task(ask())
    return deleted


async def _deletion(duty: Duty, work: Work) -> str | None:
    """Give the source's word that an attachment is deleted; None without it."""
    try:
        await duty.source.fetch(work.ticket_id, work.id, _Probe)
    except NotFound as error:
        return f"the source deleted it: {error}"
    except SourceError as error:
        if error.again is Again.STOP or isinstance(error, SourceUnreachable):
            raise
    except _StillThereError:
        pass
    return None


class _StillThereError(Exception):
    """The source still has the bytes; there is no need to read them."""


class _Probe:
    """A sink that wants to know only whether bytes come at all."""

    def write(self, _data: bytes, /) -> None:
        raise _StillThereError

    def abort(self) -> None:
        """Nothing was kept."""
