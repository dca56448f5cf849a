"""The JSON envelope that every answer of the endpoint wears, and the refusals inside it.

Success is ``{"ok": true, "data": …}``; a refusal is ``{"ok": false, "error": code, "message": …}``
with ``errors`` (field name to sentences) and ``data`` where they help. Tickiti's own client
compares ``error`` with a string and shows ``message`` to people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from starlette.types import Send

from migrator.serve import audit_log

RawHeaders = list[tuple[bytes, bytes]]
"""Headers as ASGI carries them."""

_ALWAYS: RawHeaders = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


class Refusal(Exception):
    """An answer other than 200, raised where the reason is found and sent by the application.

    ``errors`` names the fields of the request body that are wrong, ``data`` holds facts a
    program can act on, ``headers`` are sent beside the usual ones.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.errors = errors
        self.data = data
        self.headers = headers

    def body(self) -> bytes:
        """Return the envelope as JSON in ASCII, so that no text in it can fail to encode."""
        envelope: dict[str, object] = {"ok": False, "error": self.code, "message": self.message}
        if self.errors is not None:
            envelope["errors"] = self.errors
        if self.data is not None:
            envelope["data"] = self.data
        return json.dumps(envelope).encode("ascii")

    async def send(self, send: Send) -> None:
        """Send the whole answer."""
        audit_log.tell(code=self.code)
        body = self.body()
        await start(send, self.status, len(body), self.headers)
        await send({"type": "http.response.body", "body": body})


def response_headers(length: int | None) -> RawHeaders:
    """Return the headers of every answer; ``length`` is that of the body in bytes, if known."""
    return [*_ALWAYS] if length is None else [*_ALWAYS, (b"content-length", b"%d" % length)]


async def start(
    send: Send, status: int, length: int | None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send the status line and the headers of an answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*response_headers(length), *headers],
        }
    )


def server_error() -> Refusal:
    """Return the answer to a bug or a failing disk of ours; it tells a client nothing more."""
    return Refusal(500, "server_error", "The server could not answer. Its operator's log says why.")
