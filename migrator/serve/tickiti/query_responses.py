"""``POST /api/v1/tickets/responses/query``: responses over all tickets, page by page."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Send

from migrator.archive import Archive
from migrator.archive.records import Response, ResponseFilter, Token
from migrator.serve.auth import Doorkeeper
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickiti.endpoint import Body, Endpoint
from migrator.serve.tickiti.queues import Queues
from migrator.serve.tickiti.requests import Fields, Parts, moment, parts
from migrator.serve.tickiti.serializers import iso_time, number_of
from migrator.serve.tickiti.streaming import send_pieces
from migrator.serve.tickiti.threads import After, Responses

DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 1000

LIGHT: Final = (
    "response_id",
    "ticket_number",
    "ticket_id",
    "queue_id",
    "id",
    "is_internal",
    "is_pinned",
    "staff_response",
    "created_by_email",
    "created_at",
    "updated_at",
    "is_email_sourced",
    "created_by_name",
)
"""The fields that every row has; naming them in ``fields`` is allowed and changes nothing."""

REFUSED: Final = ("is_empty", "count_only", "group_by")
"""What later servers offer and this one does not: a client must not take rows for counts."""

_SECONDS: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Page:
    wanted: ResponseFilter
    parts: Parts
    after: After | None
    limit: int


class QueryResponses(Endpoint):
    """The endpoint; oldest first, with a cursor that no response slips by.

    The cursor is the time and the id of the last row. Rows that a sync adds behind it are not
    seen by this pass; all others come exactly once.
    """

    def __init__(
        self,
        archive: Archive,
        settings: EndpointSettings,
        *,
        door: Doorkeeper,
        queues: Queues,
        responses: Responses,
    ) -> None:
        super().__init__(door)
        self._settings = settings
        self._threads = archive.threads
        self._queues = queues
        self._responses = responses

    async def answer(self, token: Token, body: Body, receive: Receive, send: Send, /) -> None:
        """Send one page."""
        page = self._page(Fields(body), token)
        await send_pieces(self._pieces(page), receive, send)

    def _page(self, fields: Fields, token: Token) -> _Page:
        for name in REFUSED:
            if fields.has(name):
                fields.wrong(name, f"The {name} field is not supported by this server.")
        ids = fields.integers("response_id")
        numbers = fields.identifiers("ticket_number")
        wanted = ResponseFilter(
            queues=self._queues.allowed(
                token, names=fields.identifiers("queue"), ids=fields.identifiers("queue_id")
            ),
            ticket_numbers=None if numbers is None else frozenset(numbers),
            created_from=fields.moment("created_from"),
            created_to=fields.moment("created_to", end=True),
            is_internal=fields.flag("is_internal"),
            staff=fields.flag("staff_response"),
            response_ids=None if ids is None else frozenset(ids),
            author_email=fields.text("created_by_email"),
            has_attachments=fields.flag("has_attachments"),
            deleted=self._settings.serve_deleted,
            unread=not self._settings.posts_follow,
        )
        fields.flag("include_deleted")  # Kayako deletes posts without a trace
        asked = parts(fields, LIGHT)
        if fields.flag("metadata_only"):
            asked = Parts(frozenset(), None)
        limit = fields.integer("limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT
        after = _cursor(fields)
        fields.check()
        return _Page(wanted, asked, after, limit)

    def _pieces(self, page: _Page) -> Iterator[str]:
        # One more than is sent tells whether there is a next page.
        read, most = functools.partial(self._read, page.wanted), page.limit + 1
        found = self._responses.told(read, page.parts, after=page.after, most=most)
        cursor, last = None, None
        yield '{"ok": true, "data": {"responses": ['
        for number, (response, told) in enumerate(found):
            if number == page.limit:
                cursor = last and {"created_at": _cursor_time(last.created_at), "id": last.id}
                break
            yield (", " if number else "") + json.dumps({**_which(response), **told})
            last = response
        yield f'], "next_cursor": {json.dumps(cursor)}' + "}}"

    def _read(
        self, wanted: ResponseFilter, after: After | None, limit: int, text_limit: int | None
    ) -> list[Response]:
        return self._threads.query(wanted, after=after, limit=limit, text_limit=text_limit)


def _which(response: Response) -> dict[str, object]:
    return {
        "response_id": str(response.id),
        "ticket_number": number_of(response.ticket_number),
        "ticket_id": str(response.ticket_id),
        "queue_id": str(response.queue_id),
    }


def _cursor_time(seconds: int) -> str:
    """Return a time that :func:`_cursor` reads as the very same, even if no calendar has it."""
    text = iso_time(seconds)
    return text if moment(text) == seconds else str(seconds)


def _cursor(fields: Fields) -> After | None:
    sent = fields.mapping("cursor")
    if sent is None:
        return None
    created = sent.text("created_at") or ""
    seconds = int(created) if _SECONDS.fullmatch(created) else moment(created)
    found = sent.integers("id")
    if seconds is None or not found:
        fields.wrong("cursor", "The cursor field must be the next_cursor of an earlier page.")
        return None
    return seconds, found[0]
