"""Which helpdesk this is, told by what survives a change of address.

That is what Kayako never changes and nobody can choose: when a ticket was created, and its mask
(``ABC-123-45678``, drawn by lot). Departments and statuses are no witnesses: every fresh
installation has the same ones, and people rename them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from migrator.errors import Again, NotFound, SourceError
from migrator.sources.base import Likeness, Scope, Ticket
from migrator.sources.kayako.walk import BY_ID, Calls, look_around, page_of

LISTED = 100
"""Tickets of a list that are looked through, where none is known by its id."""

_MASK = re.compile(r"[A-Z]{3}-[0-9]{3}-[0-9]{5}")


async def compare(client: Calls, known: Sequence[Ticket]) -> Likeness:
    """Ask for known tickets until they leave no doubt; two requests, mostly.

    One that cannot be asked for, or was merged into another ticket, says nothing. Raises
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


async def _compare_lists(client: Calls, known: dict[int, Ticket], likeness: Likeness) -> Likeness:
    """Look for the tickets in the lists, where none was known by its id."""
    with suppress(SourceError):
        helpdesk = await look_around(client)
        for area in helpdesk.areas(Scope()):
            page = await page_of(client, area, 0, LISTED, sort=BY_ID.sort, order=BY_ID.direction)
            for ticket in page:
                if ticket.id in known and _judge(known[ticket.id], ticket) == _AGREES:
                    return replace(likeness, agree=likeness.agree + 1)
    return likeness


_AGREES, _ABSENT, _SILENT = "agrees", "absent", ""


async def _ask(client: Calls, known: Ticket) -> str:
    """Ask for one ticket, twice where it contradicts: one stray answer proves nothing."""
    said = await _ask_once(client, known)
    if said in (_AGREES, _ABSENT, _SILENT):
        return said
    again = await _ask_once(client, known)
    return said if said == again else again if again == _AGREES else _SILENT


async def _ask_once(client: Calls, known: Ticket) -> str:
    try:
        ticket = await client.ticket(known.id)
    except NotFound:
        return _ABSENT
    except SourceError as error:
        if error.again is Again.STOP:
            raise
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
