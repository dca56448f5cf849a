"""What clients ask of one ticket: requests as records, checked before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from migrator.tickiti.fields import Fields, whole_number

HEAVY: Final = ("html", "plain_text", "attachments")
"""The fields of a response that clients may leave out."""

MAX_RANGE: Final = 25 * 1024 * 1024
"""Bytes of one ranged read, Tickiti's limit."""

DEFAULT_RANGE: Final = 8 * 1024 * 1024
"""Bytes of a ranged read without a ``length``: what Tickiti's own client asks for."""

REVIEW_OK: Final = "review_ok"


@dataclass(frozen=True, slots=True)
class TicketName:
    """Which ticket is meant: by its number or by its internal id; the other one is None."""

    number: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """A well-formed question for one attachment.

    ``attachment_id`` is None where no attachment can have the id that was sent. ``confirmed`` is
    True when the client said ``"intent": "review_ok"``. ``span`` is the offset and the length
    of a ranged read, None where the whole file is wanted.
    """

    ticket: TicketName
    attachment_id: int | None
    confirmed: bool
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Parts:
    """Which heavy fields of responses are wanted, and of bodies how many characters at most."""

    heavy: frozenset[str]
    max_body_chars: int | None


def attachment_request(body: Mapping[str, object]) -> AttachmentRequest:
    """Check the fields of a download.

    Raises Refusal 422 ``validation_failed`` that names every wrong field at once.
    """
    fields = Fields(body)
    ticket = _ticket(fields)
    attachment = fields.identifier("response_attachment_id")
    confirmed = fields.text("intent") == REVIEW_OK
    offset = fields.integer("offset", low=0)
    length = fields.integer("length", low=1, high=MAX_RANGE)
    fields.check()
    span = None
    if offset is not None or length is not None:
        span = (offset or 0, length or DEFAULT_RANGE)
    return AttachmentRequest(ticket, whole_number(attachment), confirmed, span)


def thread_request(body: Mapping[str, object]) -> tuple[TicketName, Parts]:
    """Check the fields of a question for a ticket or its responses; raises as the download."""
    fields = Fields(body)
    ticket = _ticket(fields)
    wanted = parts(fields)
    fields.check()
    return ticket, wanted


def parts(fields: Fields, light: tuple[str, ...] = ()) -> Parts:
    """Read ``fields`` and ``max_body_chars``; ``light`` names fields that always come anyway."""
    chosen = fields.choices("fields", (*HEAVY, *light))
    heavy = frozenset(HEAVY) if chosen is None else chosen & frozenset(HEAVY)
    return Parts(heavy, fields.integer("max_body_chars", low=0))


def _ticket(fields: Fields) -> TicketName:
    """Read ``ticket_number``, or ``ticket_id`` of later clients: exactly one of the two."""
    if not fields.has("ticket_id"):
        return TicketName(number=fields.identifier("ticket_number"))
    if fields.has("ticket_number"):
        fields.wrong("ticket_id", "Give the ticket_number field or the ticket_id field, not both.")
    return TicketName(id=fields.identifier("ticket_id"))
