"""The JSON objects of Tickiti's answers: tickets, responses, attachments.

Documented fields come first and in their documented order, then what this server adds. Ids are
strings, ticket numbers and sizes numbers, times ``2026-05-01T09:14:02+00:00``.
"""

from __future__ import annotations

import datetime
from typing import Final

from migrator.archive.records import Row

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def attachment_object(row: Row, *, is_inline: bool) -> dict[str, object]:
    """Return what is told about an attachment whose bytes we hold, without the bytes."""
    return {
        "id": str(row.id),
        "response_id": str(row.post_id),
        "name": row.filename,
        "mime_type": row.mime_type or "application/octet-stream",
        "sha256": row.sha256,
        "file_size": row.size,
        "is_inline": is_inline,
    }


def number_of(ticket_number: str) -> int | str:
    """Return a ticket number as Tickiti sends it: a number; one that is mapped to text as it is."""
    # "007" as the number 7 would be another ticket's; 2**53 is where JavaScript's numbers end.
    if ticket_number.isascii() and ticket_number.isdigit() and len(ticket_number) < 16:
        number = int(ticket_number)
        return number if str(number) == ticket_number else ticket_number
    return ticket_number


def iso_time(seconds: int) -> str:
    """Return Unix seconds as ISO 8601 in UTC, the epoch for a time that no calendar has."""
    try:
        return (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return _EPOCH.isoformat()
