"""The OpenAPI document of the endpoint, built from one small table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from migrator import __version__
from migrator.tickiti.schemas import SCHEMAS, Schema, ref

_UNAUTHENTICATED: Final = "unauthenticated: no token, or one that is unknown, revoked or expired."
_FORBIDDEN: Final = (
    "forbidden: the ability is missing, the owner is not of the staff, or the token does not see "
    "the ticket's queue."
)
_THROTTLED: Final = (
    "too_many_requests: too many wrong tokens came from this address; see Retry-After."
)
_INVALID: Final = "validation_failed: fields are missing or wrong; errors names each of them."
_NO_TICKET: Final = "not_found: there is no such ticket."
_LONG_BODY: Final = "payload_too_large: the request body is over 64 KiB."


@dataclass(frozen=True, slots=True)
class _Call:
    summary: str
    asks: str
    answers: str
    ability: str = "tickets:read"
    forbidden: str = _FORBIDDEN
    missing: str | None = None
    too_large: str = _LONG_BODY


_CALLS: Final = {
    "tickets/attachment": _Call(
        "Download an attachment, or a range of it",
        "AttachmentRequest",
        "AttachmentAnswer",
        forbidden=f"{_FORBIDDEN} attachment_blocked: its type is blocked. "
        "attachment_review_required: send intent review_ok to confirm.",
        missing="not_found: no such ticket, no such attachment on it, or its file is missing.",
        too_large="attachment_too_large: read it in ranges; data has file_size and ranged. "
        + _LONG_BODY,
    ),
    "tickets/show": _Call(
        "Show a ticket with its responses", "ThreadRequest", "TicketAnswer", missing=_NO_TICKET
    ),
    "tickets/responses": _Call(
        "List the responses of a ticket", "ThreadRequest", "ThreadAnswer", missing=_NO_TICKET
    ),
    "tickets/responses/query": _Call(
        "Query responses over all tickets, oldest first", "ResponsesRequest", "ResponsesAnswer"
    ),
    "tickets/query": _Call(
        "List tickets by criteria, latest activity first",
        "TicketsRequest",
        "TicketsAnswer",
        forbidden="forbidden: the ability is missing.",
    ),
    "tickets/queues": _Call("List queues", "AnyBody", "QueuesAnswer"),
    "workflow/queues": _Call(
        "List queues, without an envelope", "AnyBody", "BareQueuesAnswer", ability="workflow:read"
    ),
}


def document() -> Schema:
    """Return the description of every address, in OpenAPI 3.1."""
    paths: Schema = {f"/api/v1/{path}": {"post": _post(call)} for path, call in _CALLS.items()}
    paths["/healthz"] = _get("Is the server alive?", ref("Alive"))
    paths["/readyz"] = _get("Can it read its archive?", ref("Alive"), not_ready=True)
    paths["/openapi.json"] = _get("This document", {"type": "object"})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tickiti-compatible archive",
            "version": __version__,
            "description": "Reads a helpdesk that left Kayako Classic the way Tickiti's public "
            "API v1 reads one. Every error is an Error with a code in its field error. Fields "
            "that are not named here are ignored in requests.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post(call: _Call) -> Schema:
    answers: Schema = {
        "200": _answer("Found.", ref(call.answers)),
        "401": _answer(_UNAUTHENTICATED, ref("Error")),
        "403": _answer(call.forbidden, ref("Error")),
        "413": _answer(call.too_large, ref("Error")),
        "422": _answer(_INVALID, ref("Error")),
        "429": _answer(_THROTTLED, ref("Error")),
    }
    if call.missing:
        answers["404"] = _answer(call.missing, ref("Error"))
    return {
        "summary": call.summary,
        "description": f"Needs the ability {call.ability} or its :write.",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(call.asks)}},
        },
        "responses": dict(sorted(answers.items())),
    }


def _get(summary: str, schema: Schema, *, not_ready: bool = False) -> Schema:
    answers: Schema = {"200": _answer("Yes.", schema)}
    if not_ready:
        answers["503"] = _answer("not_ready: it cannot at the moment.", ref("Error"))
    return {"get": {"summary": summary, "responses": answers}}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
