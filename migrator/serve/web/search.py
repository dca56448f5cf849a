"""Finding tickets."""

from __future__ import annotations

import functools
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from migrator.archive.records import TicketHeader
from migrator.serve.web.site import Room, Visit

SHOWN: Final = 50
"""Tickets on the page; whoever gets more narrows the search."""

_LONGEST: Final = 200

FIELDS: Final = {
    "": "Everything",
    "number": "Ticket number",
    "subject": "Subject",
    "requester": "Requester",
    "filename": "File name",
}


def search(room: Room, request: Request, visit: Visit) -> Response:
    """Show the first page: the form, and below it what was found, or the latest tickets."""
    text = request.query_params.get("q", "").strip()[:_LONGEST]
    field = request.query_params.get("in", "")
    field = field if field in FIELDS else ""
    found = _find(room, visit, text, field)
    return room.page(
        "search.html",
        visit,
        text=text,
        field=field,
        fields=FIELDS,
        tickets=found[:SHOWN],
        more=len(found) > SHOWN,
    )


def _find(room: Room, visit: Visit, text: str, field: str) -> list[TicketHeader]:
    deleted = room.settings.serve_deleted
    find = functools.partial(
        room.archive.threads.find, queues=visit.queues, deleted=deleted, limit=SHOWN + 1
    )
    match field:
        case "number":
            return find(number=text)
        case "subject":
            return find(subject=text)
        case "requester":
            return find(requester=text)
        case "filename":
            return find(filename=text)
        case _:
            return find(text)
