"""Which ticket is meant, and whether the token may see it."""

from __future__ import annotations

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.tickiti.asked import TicketName
from migrator.tickiti.auth import sees
from migrator.tickiti.envelope import Refusal
from migrator.tickiti.fields import whole_number
from migrator.tickiti.fresh import Fresh


class TicketFinder:
    """Finds tickets by number and authorises their queues, for every endpoint of the family."""

    def __init__(self, archive: Archive) -> None:
        self._ledger = archive.ledger
        access = archive.access
        self._queues = Fresh(
            lambda: {each.department_id: each.queue_id for each in access.queues()}
        )

    def find(self, name: TicketName, token: Token) -> int:
        """Return the Kayako id of the ticket of this name.

        Raises Refusal: 404 ``not_found`` where there is none, 403 ``forbidden`` where the
        token does not see its queue.
        """
        ticket_id = self._named(name)
        department_id = self._ledger.department_of(ticket_id) if ticket_id is not None else None
        if ticket_id is None or department_id is None:
            which = "number" if name.id is None else "id"
            raise Refusal(404, "not_found", f"There is no ticket with this {which}.")
        queue_id = self._queues().get(department_id, department_id) if token.queues else 0
        if not sees(token, queue_id):
            raise Refusal(403, "forbidden", "This token has no access to the ticket's queue.")
        return ticket_id

    def _named(self, name: TicketName) -> int | None:
        if name.id is not None:
            return whole_number(name.id)
        return self._ledger.ticket_id_for(name.number or "")
