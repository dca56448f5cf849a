"""After a whole pass: what the source no longer lists.

An attachment that we hold and that no list named any more may be deleted, in the trash, or
hidden by a list that lied. Only the source's own 404 for that very attachment counts as a
deletion, and too many at once count as a fault.
"""

from __future__ import annotations

from functools import partial

from migrator.archive.records import Work
from migrator.errors import Again, NotFound, SafetyLimit, SourceError
from migrator.events import Notice
from migrator.transfer.crew import Duty

BATCH = 500
"""Rows read from the ledger at once."""


async def reconcile(duty: Duty) -> None:
    """Mark what the source has deleted; raises SafetyLimit when that would be too much.

    Nothing is marked after a pass that did not list everything.
    """
    ledger, do, run_id = duty.ledger, duty.recorder.do, duty.result.run_id
    unseen, stored = await do(lambda: ledger.count_unseen(run_id))
    if not unseen:
        return
    if not duty.result.proven:
        text = f"{unseen:,} stored attachments were not listed; not judged, the lists had gaps"
        duty.listener(Notice(text, "warning"))
        return
    if duty.options.deletions.forbids(unseen, stored):
        raise SafetyLimit(
            f"the source no longer lists {unseen:,} of {stored:,} stored attachments; nothing "
            "was changed. If they were deleted on purpose, run again with --accept-deletions"
        )
    after = 0
    while batch := await do(partial(ledger.unseen, run_id, after=after, limit=BATCH)):
        for work in batch:
            if duty.stop.asked:
                return
            await _judge(duty, work)
        after = batch[-1].id


async def _judge(duty: Duty, work: Work) -> None:
    try:
        await duty.source.fetch(work.ticket_id, work.id, _Probe)
    except NotFound as error:
        text = f"the source deleted it: {error}"
        await duty.recorder.do(lambda: duty.ledger.mark_deleted(work.id, text))
        duty.result.deleted += 1
    except SourceError as error:
        if error.again is Again.STOP:
            raise
    except _StillThereError:
        pass


class _StillThereError(Exception):
    """The source still has the bytes; there is no need to read them."""


class _Probe:
    """A sink that wants to know only whether bytes come at all."""

    def write(self, _data: bytes, /) -> None:
        raise _StillThereError

    def abort(self) -> None:
        """Nothing was kept."""
