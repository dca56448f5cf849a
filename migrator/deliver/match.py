"""Which ticket of the target belongs to which of ours: checked before a note, or proposed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from migrator.archive.records import TicketHeader
from migrator.deliver.client import Client, Facts
from migrator.deliver.note import Seen, seen
from migrator.errors import Declined, UnexpectedReply
from migrator.text import name_key

MOST_CANDIDATES: Final = 5
"""Tickets of the target that are looked at for one of ours."""
DAY: Final = 86_400
HEAD: Final = (
    "kayako_ticket_id",
    "ticket_number",
    "doubt",
    "subject",
    "subject_there",
    "requester",
)


@dataclass(frozen=True, slots=True)
class There:
    """A ticket of the target; ``notes`` are ours in it, in the order of their ids.

    ``others`` counts the responses of anybody else.
    """

    number: str
    subject: str
    originator: str
    status: str
    created_at: int = 0
    notes: Sequence[Seen] = ()
    texts: Sequence[str] = field(default=(), repr=False)
    others: int = 0


async def show(client: Client, number: str) -> There:
    """Return a ticket of the target as it stands now."""
    what = f"ticket {number}"
    data = await client.ask("tickets/show", {"ticket_number": number}, what=what)
    ticket, responses = data.get("ticket"), data.get("responses")
    if not isinstance(ticket, dict) or not isinstance(responses, list):
        raise UnexpectedReply(f"{what}: the answer has no ticket with responses")
    rows = [one for one in responses if isinstance(one, dict)]
    notes = sorted(filter(None, map(seen, rows)), key=lambda one: _place(one.response_id))
    return There(
        number=number,
        subject=_text(ticket.get("subject")),
        originator=_text(ticket.get("originator_email")),
        status=_text(ticket.get("status")),
        created_at=_seconds(ticket.get("created_at")),
        notes=notes,
        texts=[_text(one.get("plain_text")) or _text(one.get("html")) for one in rows[:20]],
        others=sum(one.get("is_audit_only") is not True for one in rows) - len(notes),
    )


def _place(response_id: str) -> tuple[int, str]:
    return (int(response_id) if re.fullmatch("[0-9]{1,18}", response_id) else 1 << 62, response_id)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> int:
    try:
        return int(datetime.fromisoformat(_text(value)).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def _same_subject(ours: TicketHeader, there: There) -> bool:
    mine, other = name_key(ours.subject), name_key(there.subject)
    return bool(mine) and (mine == other or (len(mine) >= 12 and mine in other))


def _same_person(ours: TicketHeader, there: There) -> bool:
    return bool(ours.requester_email) and name_key(ours.requester_email) == name_key(
        there.originator
    )


def disagreement(ours: TicketHeader, there: There) -> str:
    """Return how a ticket of the target differs from ours; "" if it seems to be the same one."""
    wrong = []
    if name_key(ours.subject) and not _same_subject(ours, there):
        wrong.append(f"its subject there is {there.subject!r}")
    if ours.requester_email and not _same_person(ours, there):
        wrong.append(f"its originator there is {there.originator or 'nobody'!r}")
    return " and ".join(wrong)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A number for a ticket of ours, with a reason to ``doubt`` it, or ""."""

    ticket: TicketHeader
    there: There
    doubt: str

    def cells(self) -> Sequence[str]:
        """Return the line for a CSV, in the order of HEAD."""
        ours = self.ticket
        found = (str(ours.id), self.there.number, self.doubt)
        return (*found, ours.subject, self.there.subject, ours.requester_email)


async def propose(
    client: Client, tickets: Iterable[TicketHeader]
) -> AsyncIterator[tuple[TicketHeader, Proposal | None]]:
    """Yield each ticket with the number that it most probably has at the target, if any."""
    taken: dict[str, int] = {}
    for ours in tickets:
        best = await _best(client, ours)
        if best is not None:
            other = taken.setdefault(best.there.number, ours.id)
            if other != ours.id:
                best = Proposal(ours, best.there, f"proposed for ticket {other} as well")
        yield ours, best


async def _best(client: Client, ours: TicketHeader) -> Proposal | None:
    numbers: dict[str, None] = {}
    for criteria in _criteria(ours):
        asked = {"search_object": {"criteria": criteria}, "row_limit": MOST_CANDIDATES}
        try:
            found = await client.rows("tickets/query", asked, what=f"a search for ticket {ours.id}")
        except Declined:
            continue
        numbers |= dict.fromkeys(_numbers(found))
    rated = []
    for number in list(numbers)[: 2 * MOST_CANDIDATES]:
        try:
            there = await show(client, number)
        except Declined:
            continue
        rated.append((_rate(ours, there), there))
    rated = sorted((one for one in rated if one[0] > 1), key=lambda one: -one[0])
    if not rated:
        return None
    (points, there), *others = rated
    doubt = ""
    if others and others[0][0] == points:
        alike = [one.number for n, one in rated if n == points]
        doubt = f"as likely: {', '.join(alike[1:])}"
    elif wrong := disagreement(ours, there):
        doubt = wrong
    elif points < 4:
        doubt = "little to compare"
    return Proposal(ours, there, doubt)


def _rate(ours: TicketHeader, there: There) -> int:
    names = [name for name in (ours.display_id, str(ours.id)) if len(name) >= 5]
    text = "\n".join([there.subject, *there.texts])
    named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)
    near = bool(there.created_at) and abs(there.created_at - ours.created_at) <= DAY
    same = 2 * _same_subject(ours, there) + 2 * _same_person(ours, there)
    return same + 2 * named + near


def _criteria(ours: TicketHeader) -> Iterator[list[Mapping[str, object]]]:
    if len(ours.display_id) >= 5:
        yield [{"mode": "subject_content", "tokens": [ours.display_id]}]
    person = [{"mode": "participant", "tokens": [ours.requester_email]}]
    subject = [{"mode": "subject", "tokens": [ours.subject.strip()]}]
    both = (person if ours.requester_email else []) + (subject if ours.subject.strip() else [])
    if both:
        yield list(both)


async def made_for(client: Client, marker: str) -> str | None:
    """Return the number of the ticket that has a mark in its text, None where none is found."""
    criteria = [{"mode": "content", "tokens": [marker.rpartition(" ")[2].rstrip("]")]}]
    asked = {"search_object": {"criteria": criteria}, "row_limit": MOST_CANDIDATES}
    found = await client.rows("tickets/query", asked, what="a search for a ticket")
    for number in dict.fromkeys(_numbers(found)):
        there = await show(client, number)
        if any(one.marker == marker for one in there.notes):
            return number
    return None


def _numbers(found: object) -> Iterator[str]:
    """Yield the ticket numbers of rows whose place and keys nobody has documented."""
    if isinstance(found, list):
        for one in found[:MOST_CANDIDATES]:
            row: Facts = one if isinstance(one, dict) else {}
            for name in ("number", "ticket_number", "ticketNumber", "ticket_no"):
                value: Any = row.get(name)
                if isinstance(value, int | str) and re.fullmatch("[0-9]{1,12}", str(value)):
                    yield str(value)
                    break
    elif isinstance(found, dict):
        for name in ("data", "tickets", "rows", "results"):
            yield from _numbers(found.get(name))
