"""The JSON body of a request, read with a bound.

What all authenticated endpoints do first: admit the token and read the body.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import ClassVar, Final, NoReturn

from starlette.types import Receive, Scope, Send

from migrator.archive.records import Token
from migrator.serve.auth import Doorkeeper
from migrator.serve.refusals import Refusal
from migrator.serve.tickiti.streaming import send_json

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body; real ones have a hundred."""

_JSON_TYPE: Final = re.compile(rb"application/(?:[\w.-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_object(scope: Scope, receive: Receive) -> dict[str, object]:
    """Read the request body as one JSON object.

    Raises Refusal: 413 ``payload_too_large`` over MAX_BODY bytes, 422 ``validation_failed`` for
    another content type, for bytes that are not JSON in UTF-8 and for JSON that is no object;
    and ClientGone. An empty body, and PHP's empty array, are an empty object: all fields of a
    query are optional.
    """
    headers = dict(scope["headers"])
    raw = await _read(headers, receive)
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not _JSON_TYPE.fullmatch(kind.strip()):
        _invalid("content_type", "The header Content-Type must be application/json.")
    try:
        parsed = json.loads(raw.removeprefix(BOM_UTF8).decode() or "{}")
    except (ValueError, RecursionError):
        # ValueError: broken UTF-8, broken JSON, a number with thousands of digits.
        _invalid("body", "The request body is not valid JSON.")
    if parsed == []:
        parsed = {}
    if not isinstance(parsed, dict):
        _invalid("body", "The request body must be a JSON object.")
    return parsed


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
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            _too_large()
        more = message.get("more_body", False)
    return body


def _too_large() -> NoReturn:
    raise Refusal(413, "payload_too_large", f"The request body is over {MAX_BODY} bytes.")


def _invalid(field: str, sentence: str) -> NoReturn:
    raise Refusal(422, "validation_failed", sentence, errors={field: [sentence]})


Body = Mapping[str, object]


class Endpoint(ABC):
    """An endpoint as a bare ASGI application behind a route.

    ``ability`` is what a token must hold; ``staff`` says that its owner must be of the staff.
    """

    ability: ClassVar[str] = "tickets:read"
    staff: ClassVar[bool] = True

    def __init__(self, door: Doorkeeper) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refusal for every answer but 200."""
        token = self._door.admit(scope, self.ability, staff=self.staff)
        body = await read_object(scope, receive)
        await self.answer(token, body, receive, send)

    @abstractmethod
    async def answer(self, token: Token, body: Body, receive: Receive, send: Send, /) -> None:
        """Check the body, look up, and send the answer."""


class Lookup(Endpoint):
    """An endpoint whose answers are short enough to be made as a whole."""

    async def answer(self, token: Token, body: Body, _receive: Receive, send: Send, /) -> None:
        """Send what :meth:`found` returns."""
        await send_json(send, self.found(token, body))

    @abstractmethod
    def found(self, token: Token, body: Body, /) -> object:
        """Check the body, look up, and return the whole document."""
