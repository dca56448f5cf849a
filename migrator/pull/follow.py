"""Asking where a ticket is, and believing a merge only when all that the source says agrees."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from migrator.errors import NotFound, PartialReply, UnexpectedReply
from migrator.pull.protocols import Source
from migrator.pull.rows import row_of
from migrator.sources.base import Ticket

if TYPE_CHECKING:
    from migrator.pull.workers import Duty


class Answer(NamedTuple):
    """A ticket, and what could not be read of its posts, None where all could."""

    ticket: Ticket
    problem: PartialReply | None


async def ask_for(source: Source, ticket_id: int) -> Answer:
    """Give a ticket, or the one it was merged into, as the source says twice.

    A confused cache or proxy answers with a stranger once. Raises UnexpectedReply when the two
    answers name different strangers, and what else Source.ticket raises.
    """
    first = await _ask(source, ticket_id)
    if first.ticket.id == ticket_id:
        return first
    second = await _ask(source, ticket_id)
    if second.ticket.id not in (ticket_id, first.ticket.id):
        raise UnexpectedReply(
            f"the reply for ticket {ticket_id} holds ticket {first.ticket.id}, then ticket "
            f"{second.ticket.id}"
        )
    return second


async def _ask(source: Source, ticket_id: int) -> Answer:
    try:
        return Answer(await source.ticket(ticket_id), None)
    except PartialReply as error:
        if len(error.rows) != 1:
            raise
        return Answer(error.rows[0], error)


async def follow(duty: Duty, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
    """Give a ticket, or the one it was merged into; None when the source has deleted it.

    A merge is believed when the source says so twice and has nothing for the old ticket any more:
    either the caller knows that it is ``in_no_list`` of tickets, or its list of attachments is
    empty. It is written down at once: the attachments, ids unchanged, are the survivor's now.
    Raises SourceError when the source does not say, or contradicts itself.
    """
    try:
        ticket, _ = await ask_for(duty.source, ticket_id)  # its posts are the affair of others
    except NotFound:
        return None
    if ticket.id == ticket_id:
        return ticket
    if not in_no_list:
        await _see_nothing_of(duty, ticket_id, ticket)
    await duty.recorder.do(partial(duty.ledger.put_ticket, row_of(ticket)))
    await duty.recorder.do(partial(duty.ledger.mark_merged, ticket_id, ticket.id))
    return ticket


async def _see_nothing_of(duty: Duty, ticket_id: int, survivor: Ticket) -> None:
    try:
        still = await duty.source.attachments(ticket_id)
    except NotFound:
        return
    if still:
        raise UnexpectedReply(
            f"the source answers ticket {ticket_id} as ticket {survivor.id}, and lists "
            f"{len(still)} attachments of ticket {ticket_id} all the same"
        )
