"""The queues that a token sees: their names, and what clients call them by."""

from __future__ import annotations

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.serve.auth import Doorkeeper, sees
from migrator.serve.cache import Fresh
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickiti.endpoint import Body, Lookup
from migrator.serve.tickiti.requests import whole_number


class Queues:
    """The queues of an archive; several departments may stand behind one of them."""

    def __init__(self, archive: Archive, settings: EndpointSettings) -> None:
        self._all = Fresh(lambda: archive.access.queues(deleted=settings.serve_deleted))

    def objects(self, token: Token) -> list[dict[str, object]]:
        """Return the queues that a token sees, by id, each with its number of tickets."""
        names: dict[int, str] = {}
        tickets: dict[int, int] = {}
        for each in self._all():
            if sees(token, each.queue_id):
                names.setdefault(each.queue_id, each.name)
                tickets[each.queue_id] = tickets.get(each.queue_id, 0) + each.tickets
        return [
            {"id": str(queue_id), "name": names[queue_id], "tickets": tickets[queue_id]}
            for queue_id in sorted(names)
        ]

    def allowed(
        self, token: Token, *, names: list[str] | None = None, ids: list[str] | None = None
    ) -> frozenset[int] | None:
        """Return which queues to look in: those asked for that the token sees; None for all.

        A queue that the token does not see is as good as one that does not exist.
        """
        allowed = token.queues
        if ids is not None:
            asked = frozenset(n for n in map(whole_number, ids) if n is not None)
            allowed = asked if allowed is None else allowed & asked
        if names is not None:
            named = frozenset(each.queue_id for each in self._all() if each.name in names)
            allowed = named if allowed is None else allowed & named
        return allowed


class TicketQueues(Lookup):
    """``POST /api/v1/tickets/queues``, which later clients call."""

    def __init__(self, queues: Queues, *, door: Doorkeeper) -> None:
        super().__init__(door)
        self._queues = queues

    def found(self, token: Token, _body: Body, /) -> object:
        """Return the queues in the envelope of the tickets family."""
        return {"ok": True, "data": {"queues": self._queues.objects(token)}}


class WorkflowQueues(TicketQueues):
    """``POST /api/v1/workflow/queues``, which the first clients call.

    Tickiti wants an administrator behind the token; here an owner of the staff is enough.
    """

    ability = "workflow:read"

    def found(self, token: Token, _body: Body, /) -> object:
        """Return the queues bare: the workflow family wears no envelope."""
        return {"queues": self._queues.objects(token)}
