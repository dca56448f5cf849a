"""Responses on their way into answers: read page by page, with what their attachments tell.

``tickets/show`` and ``tickets/responses``: one ticket with all that was written to it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from starlette.types import Receive, Send

from migrator.archive import Archive
from migrator.archive.records import Response, TicketHeader, Token
from migrator.serve.auth import Doorkeeper
from migrator.serve.markup import InlineImages
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickets import TicketFinder
from migrator.serve.tickiti.endpoint import Body, Endpoint
from migrator.serve.tickiti.requests import Parts, thread_request
from migrator.serve.tickiti.serializers import (
    attachment_object,
    number_of,
    response_object,
    ticket_object,
)
from migrator.serve.tickiti.streaming import send_pieces

PAGE: Final = 16
"""Responses read at once: each may have megabytes of text."""

After = tuple[int, int]
"""A place in a list of responses: the time and the id of the last one before it."""

Read = Callable[[After | None, int, int | None], Sequence[Response]]
"""Reads responses after a place, at most so many, with texts of at most so many characters."""


class Responses:
    """Reads and tells responses for all endpoints that do."""

    def __init__(self, archive: Archive, settings: EndpointSettings) -> None:
        self._threads = archive.threads
        self._settings = settings
        self._inline = InlineImages(archive)

    def told(
        self, read: Read, parts: Parts, *, after: After | None = None, most: int | None = None
    ) -> Iterator[tuple[Response, dict[str, object]]]:
        """Yield responses from ``after`` on, ``most`` of them at most, each with its object."""
        text_limit = None if parts.heavy else 0
        while most is None or most > 0:
            wanted = PAGE if most is None else min(PAGE, most)
            page = read(after, wanted, text_limit)
            yield from self._page(page, parts)
            if len(page) < wanted:
                return
            after = (page[-1].created_at, page[-1].id)
            most = None if most is None else most - wanted

    def _page(
        self, page: Sequence[Response], parts: Parts
    ) -> Iterator[tuple[Response, dict[str, object]]]:
        files = {}
        if page and "attachments" in parts.heavy:
            files = self._threads.attachments_of([one.id for one in page])
        for one in page:
            rows = [row for row in files.get(one.id, []) if self._settings.serves(row)]
            inline = self._inline.among(one, rows)
            objects = [attachment_object(row, is_inline=row.id in inline) for row in rows]
            yield one, response_object(one, parts, objects)


def array(objects: Iterator[dict[str, object]]) -> Iterator[str]:
    """Yield the pieces of a JSON array."""
    opening = "["
    for one in objects:
        yield opening + json.dumps(one)
        opening = ", "
    yield "]" if opening == ", " else "[]"


class ShowTicket(Endpoint):
    """``POST /api/v1/tickets/show``: the header of a ticket and its responses."""

    def __init__(
        self, archive: Archive, *, door: Doorkeeper, tickets: TicketFinder, responses: Responses
    ) -> None:
        super().__init__(door)
        self._threads = archive.threads
        self._tickets = tickets
        self._responses = responses

    async def answer(self, token: Token, body: Body, receive: Receive, send: Send, /) -> None:
        """Send the ticket; responses pinned first, then oldest to newest."""
        name, parts = thread_request(body)
        ticket = self._tickets.find(name, token)
        await send_pieces(self._pieces(ticket, parts), receive, send)

    def head(self, ticket: TicketHeader) -> dict[str, object]:
        """Return what stands before the responses."""
        return {"ticket": ticket_object(ticket)}

    def _pieces(self, ticket: TicketHeader, parts: Parts) -> Iterator[str]:
        head = json.dumps({"ok": True, "data": {**self.head(ticket), "responses": []}})
        yield head.removesuffix("[]}}")
        told = self._responses.told(functools.partial(self._read, ticket.id), parts)
        yield from array(each for _, each in told)
        yield "}}"

    def _read(
        self, ticket_id: int, after: After | None, limit: int, text_limit: int | None
    ) -> list[Response]:
        return self._threads.responses(ticket_id, after=after, limit=limit, text_limit=text_limit)


class ListResponses(ShowTicket):
    """``POST /api/v1/tickets/responses``: the responses of a ticket without its header."""

    def head(self, ticket: TicketHeader) -> dict[str, object]:
        """Return what stands before the responses."""
        return {"ticket_number": number_of(ticket.ticket_number)}
