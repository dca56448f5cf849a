"""The JSON objects of Tickiti's answers: tickets, responses, attachments.

Documented fields come first and in their documented order, then what this server adds. Ids are
strings, ticket numbers and sizes numbers, times ``2026-05-01T09:14:02+00:00``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from migrator.archive.bodies import plain_text
from migrator.archive.records import Response, Row, TicketHeader
from migrator.serve.bounds import MAX_PEOPLE
from migrator.serve.markup import as_html
from migrator.serve.tickiti.requests import Parts
from migrator.text import served_name

_PRIORITIES: Final = {
    "40": {"urgent", "critical", "emergency", "immediate", "blocker", "highest"},
    "30": {"high", "important", "major"},
    "10": {"low", "lowest", "minor", "trivial"},
}
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def attachment_object(row: Row, *, is_inline: bool) -> dict[str, object]:
    """Return the object of a stored attachment, without the bytes."""
    return {
        "id": str(row.id),
        "response_id": str(row.post_id if row.post_id > 0 else -row.ticket_id),
        "name": served_name(row.filename, row.id),
        "mime_type": row.mime_type or "application/octet-stream",
        "sha256": row.sha256,
        "file_size": row.size,
        "is_inline": is_inline,
    }


def number_of(ticket_number: str) -> int | str:
    """Return a ticket number as Tickiti sends it: a number, or the text it is mapped to."""
    # "007" as the number 7 would be another ticket's; 2**53 is where JavaScript's numbers end.
    if ticket_number.isascii() and ticket_number.isdigit() and len(ticket_number) < 16:
        number = int(ticket_number)
        return number if str(number) == ticket_number else ticket_number
    return ticket_number


def iso_time(seconds: int) -> str:
    """Return Unix seconds as ISO 8601 in UTC, the epoch for a time beyond the calendar."""
    try:
        return (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return _EPOCH.isoformat()


def ticket_object(ticket: TicketHeader) -> dict[str, object]:
    """Return the header of a ticket.

    Tickiti has four priorities: see :func:`priority_of`. Kayako does not say how a ticket was
    resolved, nor when.
    """
    created = ticket.created_at
    return {
        "id": str(ticket.id),
        "number": number_of(ticket.ticket_number),
        "subject": ticket.subject,
        "status": ticket.status,
        "priority": priority_of(ticket.priority),
        "queue_id": str(ticket.queue_id),
        "originator_email": ticket.requester_email,
        "assigned_to_email": ticket.owner_email or None,
        "resolved": None,
        "on_hold_until": None,
        "created_at": iso_time(created),
        "updated_at": iso_time(max(ticket.last_activity, created)),
        "originator_name": ticket.requester_name,
        "assigned_to_name": ticket.owner_name or None,
        "queue_name": ticket.queue_name,
        "priority_name": ticket.priority or None,
        "type_name": ticket.type or None,
    }


def told_in_full(field: str, found: Sequence[object]) -> dict[str, object]:
    """Return a list as a field of an answer, with another field that says so where it is cut."""
    if len(found) <= MAX_PEOPLE:
        return {field: found}
    return {field: found[:MAX_PEOPLE], f"{field}_truncated": True}


def linked_tickets(merged: Sequence[TicketHeader]) -> dict[str, object]:
    """Return tickets as links of the one that they were merged into, in a field of its answer."""
    found = [
        {
            "id": str(one.id),
            "number": number_of(one.ticket_number),
            "subject": one.subject,
            "relation": "merged",
        }
        for one in merged
    ]
    return told_in_full("linked_tickets", found)


def participants(
    ticket: TicketHeader, authors: Sequence[tuple[str, str, bool]]
) -> dict[str, object]:
    """Return who takes part in a ticket, in a field: its requester, its owner, and who wrote.

    Each comes once. A person is told by the address, or where there is none, by the name.
    """
    found: list[dict[str, object]] = []
    by_email: dict[str, dict[str, object]] = {}
    by_name: dict[str, dict[str, object]] = {}
    people = [
        (ticket.requester_name, ticket.requester_email, False),
        (ticket.owner_name, ticket.owner_email, True),
        *authors,
    ]
    for name, email, staff in people:
        known = by_email.get(email.casefold()) if email else None
        same_name = by_name.get(name.casefold()) if name else None
        if known is None and same_name and not (email and same_name["email"]):
            known = same_name
        if known is None and (name or email):
            known = {"email": None, "name": None, "is_staff": False}
            found.append(known)
        if known is not None:
            known["email"] = known["email"] or email or None
            known["name"] = known["name"] or name or None
            known["is_staff"] = known["is_staff"] or staff
            by_email.setdefault(email.casefold(), known)
            by_name.setdefault(name.casefold(), known)
    return told_in_full("participants", found)


@lru_cache(128)
def priority_of(title: str) -> str:
    """Return Tickiti's priority (10 low, 20 normal, 30 high, 40 urgent) for Kayako's title.

    Helpdesks name their own: what is no such word, in English, is normal.
    """
    words = set(re.findall(r"[a-z]+", title.casefold()))
    for number, known in _PRIORITIES.items():
        if words & known:
            return number
    return "20"


def response_object(
    response: Response, parts: Parts, attachments: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Return a response with the heavy fields that ``parts`` requests."""
    created = iso_time(response.created_at)
    told: dict[str, object] = {
        "id": str(response.id),
        "is_internal": response.is_private,
        "is_pinned": False,
        "staff_response": response.staff,
        "created_by_email": response.author_email,
        "created_at": created,
        "updated_at": created,
        "is_email_sourced": response.is_emailed,
    }
    # Tickiti has no fields for what a time track says beside its text.
    heading = f"{response.heading}\n" if response.kind == "timetrack" else ""
    if "html" in parts.heavy:
        body = response.text if response.is_html else as_html(response.text)
        told |= _body("html", as_html(heading) + body, parts.max_body_chars)
    if "plain_text" in parts.heavy:
        body = plain_text(response.text) if response.is_html else response.text
        body = heading + body
        told |= _body("plain_text", body, parts.max_body_chars)
    if "attachments" in parts.heavy:
        told["attachments"] = attachments
    told["created_by_name"] = response.author_name
    # Kayako's API has no history of changes.
    told |= {"audit": [], "is_audit_only": False}
    told["body_chars"] = len(heading) + response.length
    return told


def _body(field: str, text: str, most: int | None) -> dict[str, object]:
    if most is None or len(text) <= most:
        return {field: text}
    return {field: text[:most], f"{field}_truncated": True}
