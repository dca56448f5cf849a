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
from migrator.serve.markup import is_deep, plain_text
from migrator.serve.refusals import Refusal
from migrator.serve.tickiti.requests import TicketName
from migrator.serve.tickiti.threads import After
from migrator.serve.web.attachment import Chip, chip
from migrator.serve.web.forms import Problem
from migrator.serve.web.sanitize import clean
from migrator.serve.web.site import Room, Visit

POSTS: Final = 50
"""Posts on one page."""

PAGE_TEXT: Final = 500_000
"""Characters on one page: behind the post that goes beyond, the page ends."""

_READ: Final = 10
"""Posts read at once."""

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
    asked = request.path_params["ticket"]
    header = _find(room, visit, asked)
    if header.id != asked:
        return RedirectResponse(f"/tickets/{header.id}", 303)
    given = _AFTER.fullmatch(request.query_params.get("after", ""))
    after = (int(given[1]), int(given[2])) if given else None
    page, more = _page(room, header, after)
    rows = room.archive.threads.attachments_of([post.id for post in page])
    return room.page(
        "ticket.html",
        visit,
        ticket=header,
        entries=[_entry(room, post, rows.get(post.id, [])) for post in page],
        first=after is None,
        next_page=f"{page[-1].created_at}-{page[-1].id}" if more else "",
    )


def _page(room: Room, header: TicketHeader, after: After | None) -> tuple[list[Post], bool]:
    """Return the posts of one page, and whether there are more of them."""
    page: list[Post] = []
    size = 0
    while True:
        few = room.archive.threads.responses(
            header.id, after=after, limit=_READ, text_limit=TEXT + 1
        )
        for post in few:
            if len(page) == POSTS or size > PAGE_TEXT:
                return page, True
            page.append(post)
            size += len(post.text)
        if len(few) < _READ:
            return page, False
        after = (few[-1].created_at, few[-1].id)


def _find(room: Room, visit: Visit, ticket_id: int) -> TicketHeader:
    try:
        return room.tickets.find(TicketName(id=str(ticket_id)), visit.token)
    except Refusal:
        # One answer for all: it must not tell which tickets exist in other queues.
        raise Problem(404, "No such ticket", "It does not exist, or you may not see it.") from None


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
