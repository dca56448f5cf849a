"""Which ticket is meant, and whether the token may see it."""

from __future__ import annotations

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.tickiti.auth import sees
from migrator.tickiti.envelope import Refusal
from migrator.tickiti.fresh import Fresh


class TicketFinder:
    """Finds tickets by number and authorises their queues, for every endpoint of the family."""

    def __init__(self, archive: Archive) -> None:
        self._ledger = archive.ledger
        access = archive.access
        self._queues = Fresh(
            lambda: {each.department_id: each.queue_id for each in access.queues()}
        )

    def find(self, number: str, token: Token) -> int:
        """Return the Kayako id of the ticket with this number.

        Raises Refusal: 404 ``not_found`` where there is none, 403 ``forbidden`` where the
        token does not see its queue.
        """
        ticket_id = self._ledger.ticket_id_for(number)
        department_id = self._ledger.department_of(ticket_id) if ticket_id is not None else None
        if ticket_id is None or department_id is None:
            raise Refusal(404, "not_found", "There is no ticket with this number.")
        queue_id = self._queues().get(department_id, department_id) if token.queues else 0
        if not sees(token, queue_id):
            raise Refusal(403, "forbidden", "This token has no access to the ticket's queue.")
        return ticket_id
