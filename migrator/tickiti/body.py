"""The JSON body of a request, read with a bound."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Final, NoReturn

from starlette.types import Receive, Scope

from migrator.tickiti.envelope import Refusal

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
