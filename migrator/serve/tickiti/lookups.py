"""The short calls: a token about itself, and the lists of what an archive knows beside threads.

Tickiti tracks teams, resolutions and links between tickets. Kayako's API tells none of these, so
their lists are empty, except that tickets which were merged are linked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from migrator.archive.records import Token
from migrator.serve.auth import Authenticator
from migrator.serve.bounds import MAX_PEOPLE
from migrator.serve.cache import TimedCache
from migrator.serve.catalog import Catalog
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import Refusal, send_json
from migrator.serve.tickiti.criteria import COMBINED, MODES
from migrator.serve.tickiti.requests import Fields, ticket_request
from migrator.serve.tickiti.serializers import iso_time, linked_tickets, number_of, told_in_full
from migrator.text import name_key

Body = Mapping[str, object]

_NO_WRITING: Final = "This is a read-only archive: nothing in it can be changed."
WRITES: Final = {
    f"tickets{path}": ("tickets:write", _NO_WRITING)
    for path in (
        *("", "/respond", "/close", "/participants/add", "/participants/remove"),
        *("/response-update", "/response-delete", "/response-move", "/response-copy"),
        *("/attachment-upload", "/attachment-delete", "/delete", "/restore", "/merge", "/split"),
        *("/link", "/unlink", "/originator-update"),
    )
} | {"mail/send": ("mail:write", _NO_WRITING)}
"""The writing calls of Tickiti: the ability that each needs, and why it is refused."""

REPORTS: Final = {
    f"reports/{name}": ("reports:read", "This archive has no reports.")
    for name in ("meta", "resolutions", "volumes", "response-times", "agent-activity")
}
"""Calls that Tickiti's plans may lack, in the same form."""

FEATURES: Final = (
    *("has_reports", "has_escalations", "has_interventions", "has_resolution_tracking"),
    "has_ai_assistant",
)
"""The features of Tickiti's plans."""


class Refused:
    """A call that an archive cannot answer: 403, to a token that might call it with ``why``."""

    def __init__(self, authenticator: Authenticator, ability: str, why: str) -> None:
        self._authenticator = authenticator
        self._ability = ability
        self._why = why

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Refuse, without reading what was sent."""
        self._authenticator.admit(scope, self._ability, staff=False)
        raise Refusal(403, "forbidden", self._why)


class Lookups:
    """The short calls of the API."""

    def __init__(self, catalog: Catalog, readers: Readers) -> None:
        self._catalog = catalog
        self._readers = readers
        threads = catalog.archive.threads
        self._staff = TimedCache(lambda: threads.staff(limit=MAX_PEOPLE + 1))

    async def token(self, token: Token, _body: Body, _receive: Receive, send: Send) -> None:
        """``token``: what the token that asks may do here."""
        families = sorted({ability.partition(":")[0] for ability in token.abilities})
        granted = {
            family: {"read": True, "write": f"{family}:write" in token.abilities}
            for family in families
        }
        told = {
            "id": str(token.id),
            "name": token.name,
            "abilities": sorted(token.abilities),
            "families": granted,
            "roles": ["staff"] if token.is_staff else [],
            "features": dict.fromkeys(FEATURES, False),
            "expires_at": None if token.expires_at is None else iso_time(token.expires_at),
            "queue_ids": None if token.queues is None else sorted(map(str, token.queues)),
            "read_only": True,
        }
        await send_json(send, {"ok": True, "data": told})

    async def search_modes(self, _token: Token, _body: Body, _receive: Receive, send: Send) -> None:
        """``tickets/search-modes``: the modes of ``tickets/query``."""
        told = {
            "modes": [{"mode": mode, "matches": matches} for mode, matches in MODES.items()],
            "criteria": COMBINED,
        }
        await send_json(send, {"ok": True, "data": told})

    async def teams(self, _token: Token, _body: Body, _receive: Receive, send: Send) -> None:
        """``tickets/teams``: none, Kayako has no teams."""
        await send_json(send, {"ok": True, "data": {"teams": []}})

    async def resolutions(self, _token: Token, _body: Body, _receive: Receive, send: Send) -> None:
        """``tickets/resolutions``: none, Kayako does not say how a ticket was resolved."""
        await send_json(send, {"ok": True, "data": {"resolutions": []}})

    async def staff(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/staff``: the staff of the helpdesk, and of those who left, who wrote a post."""
        fields = Fields(body)
        part = name_key(fields.text("search") or "")
        fields.check()

        def found() -> object:
            staff: list[object] = [
                {
                    "id": str(one.id) if one.id else None,
                    "name": one.title,
                    "email": one.email or None,
                    "teams": [],
                }
                for one in self._staff()
                if part in name_key(one.title) or part in name_key(one.email)
            ]
            return told_in_full("staff", staff)

        await self._send(token, found, receive, send)

    async def links(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/links``: the tickets that were merged into one."""
        name = ticket_request(body)

        def found() -> object:
            ticket = self._catalog.ticket(token, id=name.id, number=name.number)
            return {
                "ticket_id": str(ticket.id),
                "ticket_number": number_of(ticket.ticket_number),
                **linked_tickets(self._catalog.merged(token, ticket)),
            }

        await self._send(token, found, receive, send)

    async def _send(
        self, token: Token, find: Callable[[], object], receive: Receive, send: Send
    ) -> None:
        async with watch(receive) as gone:
            data = await self._readers.run(token.id, gone, find)
        await send_json(send, {"ok": True, "data": data})
