"""One ticket: where it is by now, believed only when all that the source says of it agrees.

A confused cache or proxy answers with a stranger once; a ticket that was merged is answered as the
one that took its posts.
"""

from __future__ import annotations

from dataclasses import dataclass

from migrator.errors import NotFound, PartialReply, SourceError, UnexpectedReply
from migrator.events import Notice
from migrator.sources.base import Listing, Receiver, Scope, Thread, Ticket
from migrator.sources.kayako.walk import Calls, Helpdesk, count_tickets, is_outage

LARGEST_PAGE = 1000
"""Tickets in one page of a second or third look."""
LOOKS = 3
"""How often at most a walk is repeated until nothing moves any more."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a listing is to do: whom to ask for what, and who takes the tickets.

    ``page_size`` tickets are asked for at once, and ``concurrency`` requests made side by side.
    The walk is repeated until nothing moves, ``looks`` times at most. Of ids that no list names at
    most ``most_gaps`` are asked for.
    """

    client: Calls
    helpdesk: Helpdesk
    scope: Scope
    receiver: Receiver
    page_size: int = 100
    concurrency: int = 8
    looks: int = LOOKS
    most_gaps: int | None = None

    @property
    def listing(self) -> Listing:
        """Where to write what it comes to."""
        return self.receiver.listing

    def page_of(self, look: int) -> int:
        """Return the tickets in one page of a look, the first of which is 0."""
        return page_of_look(self.page_size, look)

    async def follow(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return what :func:`locate` does, once a merge is written down."""
        ticket = await locate(self.client, ticket_id, in_no_list=in_no_list)
        if ticket is not None and ticket.id != ticket_id:
            await self.receiver.merge(ticket_id, ticket)
        return ticket

    async def count(self, scope: Scope | None = None) -> int | None:
        """Ask for the number of tickets in a scope (None: that of the task).

        A call that is only a check never ends a run.
        """
        try:
            return await count_tickets(self.client, self.helpdesk, scope or self.scope)
        except SourceError as error:
            if is_outage(error):
                raise
            self.warn(f"the walk cannot be checked: {error}")
            return None

    def warn(self, text: str) -> None:
        """Tell a warning."""
        self.receiver.tell(Notice(text, "warning"))


def page_of_look(page_size: int, look: int) -> int:
    """Return the tickets in one page of a look.

    Later looks take larger pages: they cost fewer requests and leave less to move between.
    """
    return min(page_size << 2 * look, LARGEST_PAGE)


async def thread(client: Calls, ticket_id: int) -> Thread:
    """Return a ticket, or the one it was merged into, as the source says twice.

    Raises UnexpectedReply when the two answers name different strangers, and what else
    Calls.ticket raises.
    """
    first = await _ask(client, ticket_id)
    if first.ticket.id == ticket_id:
        return first
    second = await _ask(client, ticket_id)
    if second.ticket.id not in (ticket_id, first.ticket.id):
        raise UnexpectedReply(
            f"the reply for ticket {ticket_id} holds ticket {first.ticket.id}, then ticket "
            f"{second.ticket.id}"
        )
    return second


async def _ask(client: Calls, ticket_id: int) -> Thread:
    try:
        return Thread(await client.ticket(ticket_id))
    except PartialReply as error:
        if len(error.rows) != 1:
            raise
        return Thread(error.rows[0], error)


async def locate(client: Calls, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
    """Return a ticket, or the one it was merged into; None when the source has deleted it.

    A merge is believed when the source says so twice and has nothing for the old ticket any more:
    either the caller knows that it is ``in_no_list`` of tickets, or its list of attachments is
    empty. Raises SourceError when the source does not say, or contradicts itself.
    """
    try:
        ticket = (await thread(client, ticket_id)).ticket  # its posts are the affair of others
    except NotFound:
        return None
    if ticket.id == ticket_id or in_no_list:
        return ticket
    try:
        still = await client.attachments(ticket_id)
    except NotFound:
        return ticket
    if still:
        raise UnexpectedReply(
            f"the source answers ticket {ticket_id} as ticket {ticket.id}, and lists "
            f"{len(still)} attachments of ticket {ticket_id} all the same"
        )
    return ticket
