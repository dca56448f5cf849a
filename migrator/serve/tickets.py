"""Which ticket is meant, and whether the token may see it."""

from __future__ import annotations

from typing import Final

from migrator.archive import Archive
from migrator.archive.records import TicketHeader, Token
from migrator.serve.auth import sees
from migrator.serve.refusals import Refusal
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickiti.requests import TicketName, whole_number

_MERGES: Final = 20
"""Merges followed from one ticket; a longer chain is no merge any more."""


class TicketFinder:
    """Finds tickets and authorises their queues, for every endpoint of the family."""

    def __init__(self, archive: Archive, settings: EndpointSettings) -> None:
        self._settings = settings
        self._queries = archive.queries
        self._threads = archive.threads

    def find(self, name: TicketName, token: Token) -> TicketHeader:
        """Return the ticket of this name, or the one it was merged into, as Kayako answers.

        Raises Refusal: 404 ``not_found`` where there is none (any more), 403 ``forbidden`` where
        the token does not see its queue.
        """
        ticket = self._followed(self._named(name))
        if ticket is None or not self._settings.shows(ticket):
            which = "number" if name.id is None else "id"
            raise Refusal(404, "not_found", f"There is no ticket with this {which}.")
        if not sees(token, ticket.queue_id):
            raise Refusal(403, "forbidden", "This token has no access to the ticket's queue.")
        return ticket

    def _named(self, name: TicketName) -> int | None:
        if name.id is not None:
            return whole_number(name.id)
        return self._queries.ticket_id_for(name.number or "")

    def _followed(self, ticket_id: int | None) -> TicketHeader | None:
        for _ in range(_MERGES):
            ticket = self._threads.ticket(ticket_id) if ticket_id is not None else None
            if ticket is None or ticket.merged_into is None:
                return ticket
            ticket_id = ticket.merged_into
        return None
