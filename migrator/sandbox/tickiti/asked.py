"""One request, and what every call asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrator.sandbox.tickiti.laravel import Form, Params, Refusal, Upload, integer
from migrator.sandbox.tickiti.model import Desk, Generation, Key, Limits, Response, Ticket


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a call that the token may use. ``raw`` is the JSON before it was trimmed."""

    path: str
    params: Params
    raw: Any
    upload: Upload | None
    key: Key
    faults: frozenset[str]
    desk: Desk
    limits: Limits

    def reference(self, form: Form) -> dict[str, int | None]:
        """Return the number or the id of the ticket that is asked for; exactly one is needed."""
        number, internal = form.value("ticket_number"), None
        if self.desk.generation >= Generation.UPLOADS:
            internal = form.value("ticket_id")
        if number is not None and internal is not None:
            form.wrong("ticket_number", "The :name field is prohibited when ticket id is present.")
        elif internal is not None:
            return {"ticket_id": form.whole("ticket_id")}
        elif number is None:
            form.wrong("ticket_number", "The :name field is required.")
        elif integer(number) is None or not 100_000 <= (integer(number) or 0) <= 999_999:
            form.wrong("ticket_number", "The :name field must be 6 digits.")
        return {"number": integer(number)}

    def ticket(self, form: Form | None = None) -> Ticket:
        """Return the ticket that is asked for, after all other fields were checked."""
        form = form or Form(self.params)
        reference = self.reference(form)
        form.check()
        return self.visible(self.desk.find(**reference))

    def visible(self, ticket: Ticket | None) -> Ticket:
        """Return a ticket if there is one and the token sees it."""
        if ticket is None:
            raise Refusal(404, "not_found", "Ticket not found.")
        if self.key.role == "customer" or not self.key.sees(ticket.queue):
            raise Refusal(403, "forbidden", "You have no access to this ticket.")
        return ticket

    def response(self, form: Form) -> tuple[Response, Ticket]:
        """Return the response that is asked for, and its ticket."""
        number = form.whole("response_id", required=True)
        form.check()
        found = self.desk.responses.get(number or 0)
        if found is None or found.deleted_at is not None:
            raise Refusal(404, "not_found", "Response not found.")
        return found, self.visible(self.desk.find(ticket_id=found.ticket_id))
