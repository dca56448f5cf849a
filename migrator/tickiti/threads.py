"""``tickets/show`` and ``tickets/responses``: one ticket with all that was written to it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator

from starlette.types import Receive, Send

from migrator.archive import Archive
from migrator.archive.records import Response, TicketHeader, Token
from migrator.tickiti.asked import Parts, thread_request
from migrator.tickiti.auth import Doorkeeper
from migrator.tickiti.endpoint import Body, Endpoint
from migrator.tickiti.objects import number_of, ticket_object
from migrator.tickiti.responses import After, Responses, array
from migrator.tickiti.stream import send_pieces
from migrator.tickiti.tickets import TicketFinder


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
