"""Single tickets: where one is now, and whether it shows the same helpdesk.

A ticket counts only when all answers about it agree: a confused cache or proxy may answer with
another one, and the reply for a merged ticket is the ticket it was merged into.

A helpdesk is identified by what Kayako never changes of a ticket and nobody can choose: the time of
creation, and the mask (``ABC-123-45678``, random). Departments and statuses do not identify it:
every fresh installation has the same ones, and people rename them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrator.errors import NotFound, PartialReply, SourceError, UnexpectedReply
from migrator.events import Notice
from migrator.sources.base import (
    CopySink,
    Likeness,
    Listing,
    Receiver,
    Scope,
    Thread,
    Ticket,
    raise_if_final,
)
from migrator.sources.kayako.walk import (
    BY_ID,
    OUTAGES,
    Helpdesk,
    count_tickets,
    look_around,
    page_of,
)

if TYPE_CHECKING:
    from migrator.sources.kayako.client import Client

LARGEST_PAGE = 1000
"""Tickets in one page of a second or third look."""
LOOKS = 3
"""The most walks until nothing moves any more."""


LISTED = 100
"""Tickets of a list that are searched, where none is known by its id."""

_MASK = re.compile(r"[A-Z]{3}-[0-9]{3}-[0-9]{5}")


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a listing: the client, the scope and the receiver of tickets.

    ``page_size`` tickets are requested at once, with up to ``concurrency`` requests at once. The
    walk is repeated until nothing moves, ``looks`` times at most. Of ids that no list names at most
    ``most_gaps`` are requested.
    """

    client: Client
    helpdesk: Helpdesk
    scope: Scope
    receiver: Receiver
    page_size: int = 100
    concurrency: int = 8
    looks: int = LOOKS
    most_gaps: int | None = None

    @property
    def listing(self) -> Listing:
        """The result to fill in."""
        return self.receiver.listing

    def page_of(self, look: int) -> int:
        """Return the page size of a look, the first of which is 0."""
        return page_of_look(self.page_size, look)

    async def resolve(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return what :func:`locate` returns, after recording a merge."""
        ticket = await locate(self.client, ticket_id, in_no_list=in_no_list)
        if ticket is not None and ticket.id != ticket_id:
            await self.receiver.merge(ticket_id, ticket)
        return ticket

    async def count(self, scope: Scope | None = None) -> int | None:
        """Return the number of tickets in a scope (None: that of the task).

        This is only a check and never ends a run.
        """
        try:
            return await count_tickets(self.client, self.helpdesk, scope or self.scope)
        except SourceError as error:
            raise_if_final(error, *OUTAGES)
            self.warn(f"the walk cannot be checked: {error}")
            return None

    def warn(self, text: str) -> None:
        """Pass a warning to the listener."""
        self.receiver.tell(Notice(text, "warning"))


def page_of_look(page_size: int, look: int) -> int:
    """Return the page size of a look.

    Later looks use larger pages: they cost fewer requests and leave less time for moves.
    """
    return min(page_size << 2 * look, LARGEST_PAGE)


async def thread(client: Client, ticket_id: int, copy: CopySink | None = None) -> Thread:
    """Return a ticket, or the one it was merged into, as two answers agree.

    The last answer goes into ``copy`` as well. Raises UnexpectedReply when the two answers are
    different other tickets, and what Client.ticket raises.
    """
    first = await _ticket(client, ticket_id, copy)
    if first.ticket.id == ticket_id:
        return first
    second = await _ticket(client, ticket_id, copy)
    if second.ticket.id not in (ticket_id, first.ticket.id):
        raise UnexpectedReply(
            f"the reply for ticket {ticket_id} holds ticket {first.ticket.id}, then ticket "
            f"{second.ticket.id}"
        )
    return second


async def _ticket(client: Client, ticket_id: int, copy: CopySink | None) -> Thread:
    try:
        if copy is not None:
            return Thread(await client.copied_ticket(ticket_id, copy))
        return Thread(await client.ticket(ticket_id))
    except PartialReply as error:
        if len(error.rows) != 1:
            raise
        return Thread(error.rows[0], error)


async def locate(client: Client, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
    """Return a ticket, or the one it was merged into; None when the source has deleted it.

    A merge counts when the source says so twice and has nothing for the old ticket any more: either
    the caller knows that it is ``in_no_list`` of tickets, or its list of attachments is empty.
    Raises SourceError when the source does not answer, or contradicts itself.
    """
    try:
        ticket = (await thread(client, ticket_id)).ticket  # posts are read elsewhere
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


async def compare(client: Client, known: Sequence[Ticket]) -> Likeness:
    """Compare known tickets until there is no doubt; usually two requests.

    One that cannot be requested, or was merged into another ticket, proves nothing. Raises
    SourceError when the source refuses us or is gone.
    """
    agree = contradict = absent = 0
    difference = ""
    left = list(known)
    while left:
        batch, left = left[:2], left[2:]
        answers = await asyncio.gather(*(_ask(client, one) for one in batch))
        for answer in answers:
            agree += answer == _AGREES
            absent += answer == _ABSENT
            if answer not in (_AGREES, _ABSENT, _SILENT):
                contradict += 1
                difference = difference or answer
        if agree and not contradict:
            break
    likeness = Likeness(agree, contradict, absent, difference)
    if likeness.other and not contradict:
        return await _compare_lists(client, {one.id: one for one in known}, likeness)
    return likeness


async def _compare_lists(client: Client, known: dict[int, Ticket], likeness: Likeness) -> Likeness:
    """Search the lists for the tickets, where none was known by its id."""
    with suppress(SourceError):
        helpdesk = await look_around(client)
        for area in helpdesk.areas(Scope()):
            page = await page_of(client, area, 0, LISTED, sort=BY_ID.sort, order=BY_ID.direction)
            for ticket in page:
                if ticket.id in known and _judge(known[ticket.id], ticket) == _AGREES:
                    return replace(likeness, agree=likeness.agree + 1)
    return likeness


_AGREES, _ABSENT, _SILENT = "agrees", "absent", ""


async def _ask(client: Client, known: Ticket) -> str:
    """Compare one ticket, twice where it contradicts: one stray answer proves nothing."""
    said = await _ask_once(client, known)
    if said in (_AGREES, _ABSENT, _SILENT):
        return said
    again = await _ask_once(client, known)
    return said if said == again else again if again == _AGREES else _SILENT


async def _ask_once(client: Client, known: Ticket) -> str:
    try:
        ticket = await client.ticket(known.id)
    except NotFound:
        return _ABSENT
    except SourceError as error:
        raise_if_final(error)
        return _SILENT
    return _judge(known, ticket) if ticket.id == known.id else _SILENT


def _judge(known: Ticket, ticket: Ticket) -> str:
    name = f"its ticket {known.id}"
    if known.created_at and ticket.created_at and known.created_at != ticket.created_at:
        return f"{name} was created at another time"
    masks = (known.display_id, ticket.display_id)
    if masks[0] != masks[1] and all(map(_MASK.fullmatch, masks)):
        return f"{name} is {masks[1]}, not {masks[0]}"
    before = (known.subject, known.full_name, known.email)
    now = (ticket.subject, ticket.full_name, ticket.email)
    pairs = [(one, two) for one, two in zip(before, now, strict=True) if one and two]
    if pairs and all(one != two for one, two in pairs) and len(pairs) > 1:
        return f"{name} has another subject and another requester"
    if known.created_at and ticket.created_at:
        return _AGREES
    return _AGREES if any(one == two for one, two in pairs) else _SILENT
