"""A client of Tickiti's API for tests: it says exactly what a test wants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from migrator.sandbox.tickiti import Ticket, Tickiti

AUTHOR = "migration@example.com"


class Caller:
    """Calls a running look-alike."""

    def __init__(self, tickiti: Tickiti, http: httpx.Client, token: str | None = None) -> None:
        self.tickiti, self.http = tickiti, http
        self.headers = {
            "Authorization": f"Bearer {token or tickiti.token}",
            "Accept": "application/json",
        }

    def with_key(self, *abilities: str, **more: Any) -> Caller:
        """Return a caller with another API key."""
        return Caller(self.tickiti, self.http, self.tickiti.add_key(*abilities, **more).token)

    def post(self, path: str, **more: Any) -> httpx.Response:
        """Post anything."""
        headers = {**self.headers, **more.pop("headers", {})}
        return self.http.post(f"{self.tickiti.url}/api/v1/{path}", headers=headers, **more)

    def call(self, path: str, key: str | None = None, /, **params: Any) -> httpx.Response:
        """Call with parameters, and with a key if there is one."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.post(path, json=params, headers=headers)

    def ok(self, path: str, key: str | None = None, /, **params: Any) -> Any:
        """Return the data of a call that succeeds."""
        return taken(self.call(path, key, **params))

    def refused(self, path: str, key: str | None = None, /, **params: Any) -> tuple[int, str]:
        """Return status and code of a call that does not."""
        answer = self.call(path, key, **params)
        told = answer.json()
        assert told["ok"] is False
        assert told["message"]
        return answer.status_code, told["error"]

    def upload(self, name: str, contents: bytes) -> httpx.Response:
        """Upload a file."""
        return self.post("tickets/attachment-upload", files={"file": (name, contents)})

    def reference(self, name: str, contents: bytes) -> dict[str, Any]:
        """Upload a file that is taken, and return how to refer to it."""
        found: dict[str, Any] = taken(self.upload(name, contents))
        return found

    def note(self, ticket: Ticket, key: str = "note", **more: Any) -> httpx.Response:
        """Write an internal response."""
        return self.call("tickets/respond", key, **self.of_note(ticket, **more))

    @staticmethod
    def of_note(ticket: Ticket, **more: Any) -> dict[str, Any]:
        """Return the parameters of an internal response."""
        return {
            "ticket_number": str(ticket.number),
            "from_email": AUTHOR,
            "is_internal": True,
            "content": "<p>From the archive.</p>",
            **more,
        }


def taken(answer: httpx.Response) -> Any:
    """Return the data of an answer, which must be a success."""
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["ok"] is True
    return told["data"]


@contextlib.contextmanager
def calling(*faults: str, **options: Any) -> Iterator[Caller]:
    """Start a look-alike and call it."""
    with (
        Tickiti(faults=faults, **options) as tickiti,
        httpx.Client(trust_env=False, verify=False) as http,
    ):
        yield Caller(tickiti, http)
