"""Tickiti's public API over an archive, as one ASGI application."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.errors import ArchiveError
from migrator.serve.auth import Authenticator, CachedTokens
from migrator.serve.bounds import MAX_BODY, MAX_DEPTH, MAX_VALUES, SEARCHES, Share
from migrator.serve.cache import Version
from migrator.serve.catalog import Catalog, EndpointSettings
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import (
    ErrorBorder,
    RawHeaders,
    Refusal,
    not_allowed,
    not_found,
    send_json,
)
from migrator.serve.tickiti.download import Download
from migrator.serve.tickiti.lookups import REPORTS, WRITES, Lookups, Refused
from migrator.serve.tickiti.openapi import document
from migrator.serve.tickiti.queries import Queries
from migrator.serve.tickiti.requests import in_address

_JSON_TYPE: Final = re.compile(rb"application/(?:[\w.-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)

_ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_PREFLIGHT: Final = (
    (b"access-control-max-age", b"0"),
    (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
)

Body = Mapping[str, object]
Answer = Callable[[Token, Body, Receive, Send], Awaitable[None]]
"""Checks a body and sends the answer; raises Refusal for every answer but 200."""


def build_app(
    archive: Archive, settings: EndpointSettings, share: Share | None = None
) -> CrossOrigin:
    """Return the Tickiti-compatible endpoint over an archive, as an ASGI application.

    The thread of the event loop reads single rows of the archive; :class:`Readers` do the rest.
    Tokens, rules and queues may change meanwhile, by this process or another. Every answer on
    every path is the JSON envelope.
    """
    archive = archive.served()
    readers = Readers(archive, share)
    catalog, version = Catalog(archive, settings), Version(archive.queries.moment)
    authenticator = Authenticator(CachedTokens(archive.access, version))
    searchers = Readers(archive, SEARCHES, patient=True)
    queries, download = Queries(catalog, readers, searchers), Download(catalog, version, readers)
    lookups = Lookups(catalog, readers)

    def call(
        answer: Answer, ability: str | None = "tickets:read", *, staff: bool = True
    ) -> Endpoint:
        return Endpoint(authenticator, answer, ability, staff)

    calls: dict[str, ASGIApp] = {
        "tickets/attachment": call(download.answer),
        "tickets/show": call(queries.show),
        "tickets/responses": call(queries.responses),
        "tickets/response": call(queries.response),
        "tickets/responses/query": call(queries.query_responses),
        # As in Tickiti, the owner of the token need not be of the staff:
        "tickets/query": call(queries.query_tickets, staff=False),
        "tickets/queues": call(queries.queues),
        "tickets/search-modes": call(lookups.search_modes, staff=False),
        "tickets/staff": call(lookups.staff),
        "tickets/teams": call(lookups.teams),
        "tickets/resolutions": call(lookups.resolutions),
        "tickets/links": call(lookups.links),
        # Any token may ask what it may do:
        "token": call(lookups.token, None, staff=False),
        # Tickiti requires an administrator; here an owner of the staff is enough.
        "workflow/queues": call(queries.workflow_queues, "workflow:read"),
    }
    calls |= {path: Refused(authenticator, *why) for path, why in (WRITES | REPORTS).items()}
    probes: dict[str, ASGIApp] = {
        "/openapi.json": Fixed(document()),
        "/healthz": Fixed({"ok": True}),
        "/readyz": Readiness(archive, readers, settings.snapshot),
    }
    routes = Routes(
        {f"/api/v1/{path}": ("POST", app) for path, app in calls.items()}
        | {path: ("GET", app) for path, app in probes.items()}
    )
    return CrossOrigin(ErrorBorder(routes))


class Routes:
    """Applications by path, each with the one method that it answers; a GET answers HEAD, too."""

    def __init__(self, routes: Mapping[str, tuple[str, ASGIApp]]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refusal at an unknown address."""
        found = self._routes.get(scope["path"])
        if found is None:
            raise not_found()
        method, app = found
        allowed = "GET, HEAD" if method == "GET" else method
        if scope["method"] == "OPTIONS":
            await _send_empty(send, 200, [(b"allow", allowed.encode("ascii"))])
            return
        if scope["method"] != method and (method, scope["method"]) != ("GET", "HEAD"):
            raise not_allowed(allowed)
        await app(scope, receive, send)


class CrossOrigin:
    """Lets pages of any other site call the API with a token, as Laravel does by default."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what a browser asks beforehand; mark every other answer."""
        if not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        method = asked.get(b"access-control-request-method")
        if scope["method"] == "OPTIONS" and method is not None:
            told = [_ANY_ORIGIN, (b"access-control-allow-methods", method.upper())]
            if b"access-control-request-headers" in asked:
                wanted = asked[b"access-control-request-headers"]
                told.append((b"access-control-allow-headers", wanted))
            await _send_empty(send, 204, [*told, *_PREFLIGHT])
            return

        def marking(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], _ANY_ORIGIN]}
            return send(message)

        await self._app(scope, receive, marking)


async def _send_empty(send: Send, status: int, headers: RawHeaders) -> None:
    length = [] if status == 204 else [(b"content-length", b"0")]
    headers = [*headers, (b"cache-control", b"no-store"), *length]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of the API: the token is admitted and the body read before it is answered.

    ``ability`` is what a token must have (None: nothing), ``staff`` requires an owner of the staff.
    """

    authenticator: Authenticator
    answer: Answer
    ability: str | None
    staff: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refusal for every answer but 200."""
        token = self.authenticator.admit(scope, self.ability, staff=self.staff)
        body = await read_object(scope, receive)
        await self.answer(token, body, receive, send)


async def read_object(scope: Scope, receive: Receive) -> dict[str, object]:
    """Read the request body as one JSON object; as in Laravel, fields in the address join it.

    Raises Refusal: 413 ``payload_too_large`` over MAX_BODY bytes, 422 ``validation_failed`` for
    another content type, for what PHP cannot read as JSON (bytes that are not UTF-8, NaN, half a
    surrogate pair) and for JSON that is no object; and ClientDisconnect. An empty body, and PHP's
    empty array, are an empty object: all fields of a query are optional.
    """
    headers = dict(scope["headers"])
    raw = await _read(headers, receive)
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not _JSON_TYPE.fullmatch(kind.strip()):
        _invalid("content_type", "The header Content-Type must be application/json.")
    try:
        text = raw.removeprefix(BOM_UTF8).decode() or "{}"
        parsed = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # ValueError: broken UTF-8, broken JSON, a number with thousands of digits, a surrogate.
        _invalid("body", "The request body is not valid JSON.")
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        _invalid("body", f"The request body has over {MAX_VALUES} values.")
    if parsed == []:
        parsed = {}
    if not isinstance(parsed, dict):
        _invalid("body", "The request body must be a JSON object.")
    fields: dict[str, object] = parsed
    if query := scope["query_string"]:
        try:
            fields = in_address(query) | fields
        except ValueError:
            _invalid("query", "The query string is not UTF-8.")
    if not _is_flat(fields):
        _invalid("body", f"The request body has over {MAX_DEPTH} levels.")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _is_flat(parsed: object) -> bool:
    level = [parsed]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not level


async def _read(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    declared = headers.get(b"content-length", b"0")
    # Refusing before the first receive() spares a client that waits for "100 Continue" its upload.
    if declared.isdigit() and int(declared) > MAX_BODY:
        _too_large()
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            _too_large()
        more = message.get("more_body", False)
    return body


def _too_large() -> NoReturn:
    raise Refusal(413, "payload_too_large", f"The request body is over {MAX_BODY} bytes.")


def _invalid(field: str, sentence: str) -> NoReturn:
    raise Refusal(422, "validation_failed", sentence, errors={field: [sentence]})


class Fixed:
    """``GET /healthz`` and ``GET /openapi.json``: the same document for everybody."""

    def __init__(self, document: object) -> None:
        self._document = document

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer without reading the archive, so that this always works."""
        await send_json(send, self._document)


class Readiness:
    """``GET /readyz``: 200 while both halves of the archive can be read, else 503 ``not_ready``.

    It shows the age of the ``snapshot`` that is served, if any.
    """

    def __init__(
        self,
        archive: Archive,
        readers: Readers,
        snapshot: Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        self._archive = archive
        self._readers = readers
        self._snapshot = snapshot

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Check both halves of the archive and answer."""
        async with watch(receive) as gone:
            await self._readers.run(Readiness, gone, self._check)
        found = {"snapshot": self._snapshot()} if self._snapshot else {}
        await send_json(send, {"ok": True, **found})

    def _check(self) -> None:
        lacking = Refusal(503, "not_ready", "The files of the archive cannot be reached.")
        try:
            self._archive.queries.runs(1)
        except ArchiveError as error:
            raise Refusal(503, "not_ready", "The checkpoint cannot be read.") from error
        try:
            self._archive.see_both_halves()
            missing = self._archive.blobs.missing()
        except ArchiveError as error:
            raise lacking from error
        if self._archive.blobs.where in missing:  # there may be no file in it yet
            raise lacking
