"""Asking where a ticket is that no list names."""

from __future__ import annotations

from functools import partial

from migrator.errors import NotFound
from migrator.kayako.records import Ticket
from migrator.transfer.crew import Duty
from migrator.transfer.threads import row_of


async def follow(duty: Duty, ticket_id: int) -> Ticket | None:
    """Give a ticket, or the one it was merged into; None when the source has deleted it.

    A merge is written down at once: the attachments, ids unchanged, are the survivor's now.
    Raises SourceError when the source does not say.
    """
    try:
        ticket = await duty.source.ticket(ticket_id)
    except NotFound:
        return None
    if ticket.id != ticket_id:
        await duty.recorder.do(partial(duty.ledger.put_ticket, row_of(ticket)))
        await duty.recorder.do(partial(duty.ledger.mark_merged, ticket_id, ticket.id))
    return ticket
