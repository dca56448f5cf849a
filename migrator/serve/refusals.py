"""The JSON envelope of every answer of the endpoint, and the refusals in it.

Success is ``{"ok": true, "data": …}``; a refusal is ``{"ok": false, "error": code, "message": …}``
with ``errors`` (field name to sentences) and ``data`` where they help. Tickiti's own client
compares ``error`` with a string and shows ``message`` to people.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.errors import ArchiveReplaced, ArchiveUnreachable, QueryStopped
from migrator.serve import audit_log

_log = logging.getLogger(__name__)

_ENCODER = json.JSONEncoder(separators=(",", ":"))

RawHeaders = list[tuple[bytes, bytes]]
"""Headers in ASGI's format."""

_ALWAYS: RawHeaders = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


def as_json(value: object) -> str:
    r"""Return JSON as Laravel sends it: compact, and ASCII by ``\uXXXX``.

    PHP also writes ``\/`` for a slash. No reader of JSON can tell, but the length of base64 would
    not be known before all of it was read.
    """
    return _ENCODER.encode(value)


class Refusal(Exception):
    """An answer other than 200: an exception, and an application that sends itself.

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
        return as_json(envelope).encode("ascii")

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
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


async def send_json(send: Send, document: object) -> None:
    """Send a short document as the whole answer."""
    body = as_json(document).encode("ascii")
    await start(send, 200, len(body))
    await send({"type": "http.response.body", "body": body})


def not_found() -> Refusal:
    """Return the answer at an unknown address."""
    return Refusal(404, "not_found", "There is nothing at this address.")


def not_allowed(allow: str) -> Refusal:
    """Return the answer to an unknown method; ``allow`` names the methods of the address."""
    text = f"This address answers {allow} only."
    return Refusal(405, "method_not_allowed", text, headers=[(b"allow", allow.encode("ascii"))])


def server_error() -> Refusal:
    """Return the answer to a bug or a failing disk of ours, without details."""
    return Refusal(500, "server_error", "The server could not answer. Its operator's log says why.")


def too_slow() -> Refusal:
    """Return the answer to a query that was stopped because it took too long."""
    return Refusal(503, "query_timeout", "The query took too long and was stopped. Narrow it down.")


class ErrorBorder:
    """An application that never raises, unless it is cancelled: clients get no traceback.

    ``answer`` returns the answer to an error, None for a bug; by default refusals answer
    themselves. A bug is logged, and the client gets ``bug`` unless its answer has begun.
    """

    def __init__(
        self,
        app: ASGIApp,
        answer: Callable[[Exception, Scope], ASGIApp | None] | None = None,
        bug: ASGIApp | None = None,
    ) -> None:
        self._app = app
        self._answer = answer or (lambda error, _: error if isinstance(error, Refusal) else None)
        self._bug = bug or server_error()
        self._told = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        def noting(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - every error becomes an answer here
            answer = self._answer(self._translated(error), scope)
            if answer is None:
                # The message of an exception may quote a request: it goes to the log escaped.
                where = "".join(traceback.format_tb(error.__traceback__))
                _log.error("A request failed: %s: %a\n%s", type(error).__name__, str(error), where)
                answer = self._bug
            if not started:
                await answer(scope, receive, send)

    def _translated(self, error: Exception) -> Exception:
        """Return the refusal that an error of the archive means, or the error itself."""
        if isinstance(error, QueryStopped):
            return too_slow()
        if not isinstance(error, ArchiveReplaced | ArchiveUnreachable):
            return error
        if str(error) != self._told:  # once, not for every request
            self._told = str(error)
            what = "A file cannot" if isinstance(error, ArchiveUnreachable) else "Nothing can"
            _log.error("%s be served: %s", what, self._told)
        if isinstance(error, ArchiveUnreachable):
            return Refusal(503, "not_ready", "The file cannot be reached now. Try again later.")
        return Refusal(503, "not_ready", "The archive cannot be read.")
