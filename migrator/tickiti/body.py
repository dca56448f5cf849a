"""What is asked: the JSON body of a request, read with a bound and checked field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from starlette.types import Receive, Scope

from migrator.tickiti.envelope import Refusal

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body; real ones have a hundred."""

REVIEW_OK: Final = "review_ok"

_JSON_TYPE: Final = re.compile(rb"application/(?:[\w.-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)
# Bounded, as int() raises on thousands of digits:
_ATTACHMENT_ID: Final = re.compile(r"0*([0-9]{1,18})", re.ASCII)


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """A well-formed question for one attachment.

    ``ticket_number`` is any text. ``attachment_id`` is None where no attachment can have the
    id that was sent. ``confirmed`` is True when the client said ``"intent": "review_ok"``.
    """

    ticket_number: str
    attachment_id: int | None
    confirmed: bool


async def read_object(scope: Scope, receive: Receive) -> dict[str, object]:
    """Read the request body as one JSON object.

    Raises Refusal: 413 ``payload_too_large`` over MAX_BODY bytes, 422 ``validation_failed`` for
    another content type, for bytes that are not JSON in UTF-8 and for JSON that is no object;
    and ClientGone.
    """
    headers = dict(scope["headers"])
    raw = await _read(headers, receive)
    if not _JSON_TYPE.fullmatch(headers.get(b"content-type", b"").strip()):
        _invalid("content_type", "The header Content-Type must be application/json.")
    try:
        parsed = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        # ValueError: broken UTF-8, broken JSON, a number with thousands of digits.
        _invalid("body", "The request body is not valid JSON.")
    if not isinstance(parsed, dict):
        _invalid("body", "The request body must be a JSON object.")
    return parsed


def attachment_request(body: Mapping[str, object]) -> AttachmentRequest:
    """Check the fields of a download; unknown ones are ignored, as a later client may send them.

    Raises Refusal 422 ``validation_failed`` that names every wrong field at once.
    """
    errors: dict[str, list[str]] = {}
    number = _identifier(body, "ticket_number", errors)
    attachment = _identifier(body, "response_attachment_id", errors)
    intent = body.get("intent")
    if intent is not None and not isinstance(intent, str):
        errors["intent"] = ["The intent field must be a string."]
    if errors:
        message = " ".join(sentence for found in errors.values() for sentence in found)
        raise Refusal(422, "validation_failed", message, errors=errors)
    digits = _ATTACHMENT_ID.fullmatch(attachment)
    return AttachmentRequest(number, int(digits[1]) if digits else None, intent == REVIEW_OK)


async def _read(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    declared = headers.get(b"content-length", b"0")
    # Refusing before the first receive() spares a client that waits for "100 Continue" its upload.
    if declared.isdigit() and int(declared) > MAX_BODY:
        _too_large()
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            _too_large()
        more = message.get("more_body", False)
    return bytes(body)


def _identifier(body: Mapping[str, object], field: str, errors: dict[str, list[str]]) -> str:
    value = body.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    if value is None or isinstance(value, str):
        errors[field] = [f"The {field} field is required."]
    else:
        errors[field] = [f"The {field} field must be a string or an integer."]
    return ""


def _too_large() -> NoReturn:
    raise Refusal(413, "payload_too_large", f"The request body is over {MAX_BODY} bytes.")


def _invalid(field: str, sentence: str) -> NoReturn:
    raise Refusal(422, "validation_failed", sentence, errors={field: [sentence]})
