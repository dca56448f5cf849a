"""One ticket: its thread, page by page, and its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from migrator.archive.records import Response as Post
from migrator.archive.records import Row, TicketHeader
from migrator.tickiti.auth import sees
from migrator.tickiti.markup import is_deep, plain_text
from migrator.web.attachment import Chip, chip
from migrator.web.problem import Problem
from migrator.web.room import Room, Visit
from migrator.web.sanitize import clean

POSTS: Final = 50
"""Posts on one page."""

TEXT: Final = 200_000
"""Characters of one post that are shown; the API has them all."""

_AFTER: Final = re.compile(r"([0-9]{1,12})-(-?[0-9]{1,18})", re.ASCII)

_NOTES: Final = {
    "not_kept": "The text of this post was not kept; only its files are.",
    "repaired_text": "Parts of the text arrived damaged and were cleaned.",
    "cut_text": "The text was longer than what is kept.",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A post as the page shows it; ``html`` is safe, None for plain text."""

    post: Post
    html: Markup | None
    text: str
    notes: list[str]
    files: list[Chip]


def show(room: Room, request: Request, visit: Visit) -> Response:
    """Show a ticket."""
    header = _find(room, visit, request.path_params["ticket"])
    if header.merged_into is not None:
        return RedirectResponse(f"/tickets/{header.merged_into}", 303)
    given = _AFTER.fullmatch(request.query_params.get("after", ""))
    after = (int(given[1]), int(given[2])) if given else None
    threads = room.archive.threads
    posts = threads.responses(header.id, after=after, limit=POSTS + 1, text_limit=TEXT + 1)
    page = posts[:POSTS]
    rows = threads.attachments_of([post.id for post in page])
    return room.page(
        "ticket.html",
        visit,
        ticket=header,
        entries=[_entry(room, post, rows.get(post.id, [])) for post in page],
        first=after is None,
        next_page=f"{page[-1].created_at}-{page[-1].id}" if len(posts) > POSTS else "",
    )


def _find(room: Room, visit: Visit, ticket_id: int) -> TicketHeader:
    header = room.archive.threads.ticket(ticket_id)
    if header is None or not sees(visit.token, header.queue_id):
        # One answer for both: it must not tell which tickets exist in other queues.
        raise Problem(404, "No such ticket", "It does not exist, or you may not see it.")
    return header


def _entry(room: Room, post: Post, rows: list[Row]) -> Entry:
    notes = [_NOTES.get(code, code) for code in (post.note or "").split(",") if code]
    inline = room.inline.among(post, [row for row in rows if room.settings.serves(row)])
    files = [chip(room, row) for row in rows if row.id not in inline]
    text = post.text
    if len(text) > TEXT:
        text = text[:TEXT]
        notes.append(f"Only the first {TEXT:,} characters are shown.")
    if not post.is_html:
        return Entry(post, None, text, notes, files)
    if is_deep(text):
        notes.append("The layout of this text cannot be shown.")
        return Entry(post, None, plain_text(text), notes, files)
    images = {row.filename: f"/attachments/{row.id}/view" for row in rows if row.id in inline}
    return Entry(post, clean(text, images), "", notes, files)
