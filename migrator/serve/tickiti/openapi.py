"""The shapes of Tickiti's requests and answers, as JSON Schema for ``GET /openapi.json``.

The OpenAPI document of the endpoint, built from one small table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from migrator import __version__
from migrator.serve.bounds import MAX_GROUPS, MAX_LIMIT, MAX_LIST, MAX_RANGE, MAX_ROWS
from migrator.serve.tickiti.criteria import COMBINED, MODES
from migrator.serve.tickiti.lookups import FEATURES, REPORTS, WRITES
from migrator.serve.tickiti.queries import (
    ALWAYS,
    DEFAULT_LIMIT,
    DEFAULT_ROWS,
    GROUPS,
    LIGHT,
)
from migrator.serve.tickiti.requests import DEFAULT_RANGE, HEAVY

Schema = dict[str, object]


def ref(name: str) -> Schema:
    """Return a reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, *, required: tuple[str, ...] | None = None) -> Schema:
    """Describe an object; of an answer, where ``required`` is not given, every field comes."""
    needed = list(properties if required is None else required)
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": needed} if needed else found


def _array(items: Schema, **more: object) -> Schema:
    return {"type": "array", "items": items, **more}


def _answer_object(data: Schema) -> Schema:
    return _object({"ok": {"const": True}, "data": data})


_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_MAYBE: Final[Schema] = {"type": ["string", "null"]}
_ID: Final[Schema] = {"type": "string", "pattern": "^-?[0-9]+$"}
_TIME: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$",
}
_NUMBER: Final[Schema] = {
    "type": ["integer", "string"],
    "description": "A number; text only where a ticket was given a number that is none.",
}
_ID_SENT: Final[Schema] = {"type": ["string", "integer"]}
_IDS_SENT: Final[Schema] = _array(_ID_SENT, minItems=1, maxItems=MAX_LIST)
_DAY_SENT: Final[Schema] = {
    "type": "string",
    "description": "YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS, in UTC",
    "examples": ["2026-05-01", "2026-05-01 09:14:02"],
}

_TICKET: Final[Schema] = {
    "ticket_number": {**_ID_SENT, "description": "The number of the ticket."},
    "ticket_id": {**_ID_SENT, "description": "Its internal id, instead of ticket_number."},
}
_ONE_OF_BOTH: Final[Schema] = {
    "oneOf": [{"required": ["ticket_number"]}, {"required": ["ticket_id"]}]
}
_PARTS: Final[Schema] = {
    "fields": _array({"enum": list(HEAVY)}, description="Heavy fields to send; all unless given."),
    "max_body_chars": {
        "type": "integer",
        "minimum": 0,
        "description": "Cuts each html and plain_text, and adds html_truncated and the like.",
    },
}
_ATTACHMENT: Final[Schema] = {
    "id": _ID,
    "response_id": _ID,
    "name": _TEXT,
    "mime_type": {**_TEXT, "description": "Found in the bytes, not taken from the name."},
    "sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$"},
    "file_size": {"type": "integer", "minimum": 0},
    "is_inline": {
        **_FLAG,
        "description": "True only when sure: the response's HTML shows an image whose cid: "
        "begins with this name, which no other attachment of the ticket has, and the bytes are "
        "a PNG, JPEG, GIF, WebP or BMP.",
    },
}
_RESPONSE: Final[Schema] = {
    "id": _ID,
    "is_internal": _FLAG,
    "is_pinned": {"const": False},
    "staff_response": _FLAG,
    "created_by_email": _TEXT,
    "created_at": _TIME,
    "updated_at": _TIME,
    "is_email_sourced": _FLAG,
    "html": _TEXT,
    "html_truncated": {"const": True},
    "plain_text": _TEXT,
    "plain_text_truncated": {"const": True},
    "attachments": _array(ref("Attachment")),
    "created_by_name": {**_TEXT, "description": "An addition of this server."},
    "audit": _array({"type": "object"}, maxItems=0, description="No history of changes is known."),
    "is_audit_only": {"const": False},
    "body_chars": {
        "type": "integer",
        "minimum": 0,
        "description": "Characters of the body as it was written, HTML or text, before any cut.",
    },
}
_ALWAYS: Final = tuple(
    each for each in _RESPONSE if each not in HEAVY and not each.endswith("_truncated")
)
_ROW: Final[Schema] = {
    "response_id": _ID,
    "ticket_number": _NUMBER,
    "ticket_id": _ID,
    "queue_id": _ID,
}
_GROUPED: Final[Schema] = {name: {} for name in GROUPS}
_CURSOR: Final[Schema] = _object({"created_at": _TEXT, "id": {"type": "integer"}})
_CRITERION: Final[Schema] = _object(
    {
        "mode": {"enum": list(MODES)},
        "tokens": _array(_ID_SENT, minItems=1, maxItems=MAX_LIST),
        "match": {"enum": ["any", "all"], "description": "How several tokens are meant."},
    },
    required=("mode", "tokens"),
)

SCHEMAS: Final[Schema] = {
    "Error": _object(
        {
            "ok": {"const": False},
            "error": {**_TEXT, "pattern": "^[a-z_]+$"},
            "message": _TEXT,
            "errors": {"type": "object", "additionalProperties": _array(_TEXT)},
            "data": {"type": "object"},
        },
        required=("ok", "error", "message"),
    ),
    "Attachment": _object(_ATTACHMENT),
    "Ticket": _object(
        {
            "id": _ID,
            "number": _NUMBER,
            "subject": _TEXT,
            "status": {"enum": ["open", "on-hold", "closed"]},
            "priority": {
                "enum": ["10", "20", "30", "40"],
                "description": "From the words of Kayako's priority; normal if there are none.",
            },
            "queue_id": _ID,
            "originator_email": _TEXT,
            "assigned_to_email": {
                "type": ["string", "null"],
                "description": "null: nobody, or the address is not known; see the name.",
            },
            "resolved": {"type": "null", "description": "Kayako does not say how."},
            "on_hold_until": {"type": "null", "description": "Kayako does not say until when."},
            "created_at": _TIME,
            "updated_at": _TIME,
            "originator_name": {**_TEXT, "description": "An addition of this server."},
            "assigned_to_name": {
                "type": ["string", "null"],
                "description": "An addition of this server; null: nobody.",
            },
            "queue_name": {**_TEXT, "description": "An addition of this server."},
            "priority_name": {"type": ["string", "null"], "description": "Kayako's."},
            "type_name": {"type": ["string", "null"], "description": "Kayako's."},
        }
    ),
    "Participant": _object(
        {"email": _MAYBE, "name": _MAYBE, "is_staff": _FLAG},
    ),
    "LinkedTicket": _object(
        {"id": _ID, "number": _NUMBER, "subject": _TEXT, "relation": {"const": "merged"}}
    ),
    "ShownTicket": {
        "allOf": [
            ref("Ticket"),
            _object(
                {
                    "participants": _array(ref("Participant")),
                    "participants_truncated": {"const": True},
                    "linked_tickets": _array(ref("LinkedTicket")),
                    "linked_tickets_truncated": {"const": True},
                },
                required=("participants", "linked_tickets"),
            ),
        ]
    },
    "StaffMember": _object(
        {
            "id": {"type": ["string", "null"], "description": "null: not on Kayako's list."},
            "name": _TEXT,
            "email": _MAYBE,
            "teams": _array(_TEXT, maxItems=0),
        }
    ),
    "Response": _object(_RESPONSE, required=_ALWAYS),
    "ResponseRow": {
        **_object({**_ROW, **_RESPONSE}, required=tuple(sorted(ALWAYS))),
        "description": "Every field comes, unless fields names the ones to send.",
    },
    "Queue": _object({"id": _ID, "name": _TEXT, "tickets": {"type": "integer", "minimum": 0}}),
    "TicketRequest": {**_object({**_TICKET}, required=()), **_ONE_OF_BOTH},
    "ResponseRequest": _object({"response_id": _ID_SENT, **_PARTS}, required=("response_id",)),
    "StaffRequest": _object({"search": _TEXT}, required=()),
    "AnyBody": {"type": "object", "description": "Everything in it is ignored."},
    "ThreadRequest": {**_object({**_TICKET, **_PARTS}, required=()), **_ONE_OF_BOTH},
    "AttachmentRequest": {
        **_object(
            {
                **_TICKET,
                "response_attachment_id": _ID_SENT,
                "intent": {
                    **_TEXT,
                    "description": 'Only "review_ok" says anything.',
                    "examples": ["review_ok"],
                },
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "First byte of a ranged read. Past the end nothing comes, "
                    "with eof.",
                },
                "length": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_RANGE,
                    "description": f"Bytes of a ranged read; {DEFAULT_RANGE} where only offset "
                    "is given.",
                },
            },
            required=("response_attachment_id",),
        ),
        **_ONE_OF_BOTH,
    },
    "ResponsesRequest": _object(
        {
            "created_from": _DAY_SENT,
            "created_to": _DAY_SENT,
            "is_internal": _FLAG,
            "staff_response": _FLAG,
            "queue": _array({**_TEXT, "pattern": r"\S"}, minItems=1, maxItems=MAX_LIST),
            "queue_id": _IDS_SENT,
            "ticket_number": _IDS_SENT,
            "response_id": _IDS_SENT,
            "created_by_email": _TEXT,
            "has_attachments": _FLAG,
            "is_empty": {**_FLAG, "description": "Whether a body has neither text nor image."},
            "count_only": {**_FLAG, "description": "Only data.count comes."},
            "group_by": {
                "enum": [*GROUPS, None],
                "description": "Only data.count and data.groups come, the largest group first, "
                f"{MAX_GROUPS} of them at most; groups_left_out is how many more there are.",
            },
            "include_deleted": {
                **_FLAG,
                "description": "Without effect: what the source deleted later is kept.",
            },
            "metadata_only": _FLAG,
            "fields": _array(
                {"enum": [*HEAVY, *LIGHT]},
                description=f"Of {', '.join(HEAVY)} alone: those, and all other fields. With any "
                "other name: exactly the named ones, response_id and ticket_number.",
            ),
            "max_body_chars": _PARTS["max_body_chars"],
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "default": DEFAULT_LIMIT,
            },
            "cursor": {
                **_CURSOR,
                "description": "The next_cursor of the page before, as it came.",
                "examples": [{"created_at": "2026-05-01T09:14:02+00:00", "id": 42}],
            },
        },
        required=(),
    ),
    "TicketsRequest": _object(
        {
            "search_object": _object(
                {
                    "search_perspective": {"enum": ["All"]},
                    "criteria": _array(
                        _CRITERION,
                        maxItems=MAX_LIST,
                        description=f"{COMBINED} Tokens match: "
                        + "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items())
                        + ". Other modes answer 422.",
                    ),
                },
                required=(),
            ),
            "row_limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_ROWS,
                "default": DEFAULT_ROWS,
            },
        },
        required=(),
    ),
    "AttachmentAnswer": _answer_object(
        _object(
            {
                **_ATTACHMENT,
                "eof": {**_FLAG, "description": "Ranged reads only: nothing comes after this."},
                "content_base64": _TEXT,
            },
            required=(*_ATTACHMENT, "content_base64"),
        )
    ),
    "TicketAnswer": _answer_object(
        _object({"ticket": ref("ShownTicket"), "responses": _array(ref("Response"))})
    ),
    "ThreadAnswer": _answer_object(
        _object({"ticket_number": _NUMBER, "responses": _array(ref("Response"))})
    ),
    "ResponseAnswer": _answer_object(ref("ResponseRow")),
    "LinksAnswer": _answer_object(
        _object(
            {
                "ticket_id": _ID,
                "ticket_number": _NUMBER,
                "linked_tickets": _array(ref("LinkedTicket")),
                "linked_tickets_truncated": {"const": True},
            },
            required=("ticket_id", "ticket_number", "linked_tickets"),
        )
    ),
    "StaffAnswer": _answer_object(
        _object(
            {"staff": _array(ref("StaffMember")), "staff_truncated": {"const": True}},
            required=("staff",),
        )
    ),
    "TeamsAnswer": _answer_object(_object({"teams": _array(_TEXT, maxItems=0)})),
    "ResolutionsAnswer": _answer_object(_object({"resolutions": _array(_TEXT, maxItems=0)})),
    "ModesAnswer": _answer_object(
        _object(
            {
                "modes": _array(_object({"mode": {"enum": list(MODES)}, "matches": _TEXT})),
                "criteria": _TEXT,
            }
        )
    ),
    "TokenAnswer": _answer_object(
        _object(
            {
                "id": _ID,
                "name": _TEXT,
                "abilities": _array(_TEXT),
                "families": {
                    "type": "object",
                    "additionalProperties": _object({"read": _FLAG, "write": _FLAG}),
                },
                "roles": _array({"const": "staff"}),
                "features": _object({name: {"const": False} for name in FEATURES}),
                "expires_at": {"anyOf": [_TIME, {"type": "null"}]},
                "queue_ids": {"anyOf": [_array(_ID), {"type": "null"}]},
                "read_only": {"const": True},
            }
        )
    ),
    "ResponsesAnswer": _answer_object(
        {
            "anyOf": [
                _object(
                    {
                        "responses": _array(ref("ResponseRow")),
                        "next_cursor": {"anyOf": [_CURSOR, {"type": "null"}]},
                    }
                ),
                _object(
                    {
                        "count": _COUNT,
                        "groups": _array(
                            _object({"count": _COUNT, **_GROUPED}, required=("count",))
                        ),
                        "groups_left_out": _COUNT,
                    },
                    required=("count",),
                ),
            ]
        }
    ),
    "TicketsAnswer": _answer_object(_array(ref("Ticket"))),
    "QueuesAnswer": _answer_object(_object({"queues": _array(ref("Queue"))})),
    "BareQueuesAnswer": _object({"queues": _array(ref("Queue"))}),
    "Alive": _object({"ok": {"const": True}}),
    "Ready": _object(
        {
            "ok": {"const": True},
            "snapshot": _object(
                {
                    "name": {"type": "string"},
                    "time": {"type": "integer"},
                    "age": {"type": "integer", "minimum": 0},
                    "checked": {"type": "integer", "minimum": 0},
                }
            ),
        },
        required=("ok",),
    ),
}


_UNAUTHENTICATED: Final = "unauthenticated: no token, or one that is unknown, revoked or expired."
_FORBIDDEN: Final = (
    "forbidden: the ability is missing, the owner is not of the staff, or the token does not see "
    "the ticket's queue."
)
_THROTTLED: Final = (
    "too_many_requests: too many wrong tokens came from this address; see Retry-After."
)
_UNAVAILABLE: Final = (
    "query_timeout: the query took too long and was stopped; too_busy: too many are running; "
    "not_checked: the file of a range is still being read as a whole, see Retry-After; "
    "not_ready: the archive cannot be read."
)
_INVALID: Final = "validation_failed: fields are missing or wrong; errors names each of them."
_NO_ABILITY: Final = "forbidden: the ability is missing."
_NO_TICKET: Final = "not_found: there is no such ticket."
_LONG_BODY: Final = "payload_too_large: the request body is over 64 KiB."


@dataclass(frozen=True, slots=True)
class _Call:
    summary: str
    asks: str
    answers: str
    ability: str | None = "tickets:read"
    leads_to: tuple[str, ...] = ()
    """Names of LINKS."""
    forbidden: str = _FORBIDDEN
    missing: str | None = None
    too_large: str = _LONG_BODY


_SHOWN: Final = "$response.body#/data/ticket/id"
_LINKS: Final[Schema] = {
    "attachment": {
        "operationId": "tickets/attachment",
        "requestBody": {
            "ticket_id": _SHOWN,
            "response_attachment_id": "$response.body#/data/responses/0/attachments/0/id",
            "intent": "review_ok",
        },
    },
    "response": {
        "operationId": "tickets/response",
        "requestBody": {"response_id": "$response.body#/data/responses/0/id"},
    },
    "links": {"operationId": "tickets/links", "requestBody": {"ticket_id": _SHOWN}},
    "ticket": {
        "operationId": "tickets/show",
        "requestBody": {"ticket_id": "$response.body#/data/0/id"},
    },
    "next page": {
        "operationId": "tickets/responses/query",
        "requestBody": {"cursor": "$response.body#/data/next_cursor"},
    },
}
"""What of an answer leads to which call."""

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
        "Show a ticket with its responses",
        "ThreadRequest",
        "TicketAnswer",
        missing=_NO_TICKET,
        leads_to=("attachment", "response", "links"),
    ),
    "tickets/responses": _Call(
        "List the responses of a ticket", "ThreadRequest", "ThreadAnswer", missing=_NO_TICKET
    ),
    "tickets/responses/query": _Call(
        "Query responses over all tickets, oldest first",
        "ResponsesRequest",
        "ResponsesAnswer",
        leads_to=("response", "next page"),
    ),
    "tickets/query": _Call(
        "List tickets by criteria, latest activity first",
        "TicketsRequest",
        "TicketsAnswer",
        forbidden=_NO_ABILITY,
        leads_to=("ticket",),
    ),
    "tickets/response": _Call(
        "Show one response",
        "ResponseRequest",
        "ResponseAnswer",
        missing="not_found: there is no such response.",
    ),
    "tickets/links": _Call(
        "List the tickets that were merged into one",
        "TicketRequest",
        "LinksAnswer",
        missing=_NO_TICKET,
    ),
    "tickets/staff": _Call("List the staff", "StaffRequest", "StaffAnswer"),
    "tickets/teams": _Call("List teams: Kayako has none", "AnyBody", "TeamsAnswer"),
    "tickets/resolutions": _Call(
        "List resolutions: Kayako has none", "AnyBody", "ResolutionsAnswer"
    ),
    "tickets/search-modes": _Call(
        "List the modes of tickets/query", "AnyBody", "ModesAnswer", forbidden=_NO_ABILITY
    ),
    "token": _Call("Show what this token may do", "AnyBody", "TokenAnswer", ability=None),
    "tickets/queues": _Call("List queues", "AnyBody", "QueuesAnswer"),
    "workflow/queues": _Call(
        "List queues, without an envelope", "AnyBody", "BareQueuesAnswer", ability="workflow:read"
    ),
}


def document() -> Schema:
    """Return the description of every address, in OpenAPI 3.1."""
    paths: Schema = {
        f"/api/v1/{path}": {"post": _post(path, call)} for path, call in _CALLS.items()
    }
    paths |= {f"/api/v1/{path}": _refused(path, *why) for path, why in (WRITES | REPORTS).items()}
    paths["/healthz"] = _get("Is the server alive?", ref("Alive"))
    paths["/readyz"] = _get("Can it read its archive?", ref("Ready"), not_ready=True)
    paths["/openapi.json"] = _get("This document", {"type": "object"})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tickiti-compatible archive",
            "version": __version__,
            "description": "Reads a helpdesk that left Kayako Classic the way Tickiti's public "
            "API v1 reads one. Every error is an Error with a code in its field error. Fields "
            "that are not named here are ignored in requests, but filters in the wrong place are "
            "refused. As in Laravel, null and blank texts are no value, numbers may be texts, and "
            "flags 1 or 0. A list that restricts an answer is refused if it is empty.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post(path: str, call: _Call) -> Schema:
    answers: Schema = {
        "200": _answer("Found.", ref(call.answers)),
        "401": _answer(_UNAUTHENTICATED, ref("Error")),
        "403": _answer(call.forbidden, ref("Error")),
        "413": _answer(call.too_large, ref("Error")),
        "422": _answer(_INVALID, ref("Error")),
        "429": _answer(_THROTTLED, ref("Error")),
        "503": _answer(_UNAVAILABLE, ref("Error")),
    }
    if call.leads_to:
        links = {name: _LINKS[name] for name in call.leads_to}
        answers["200"] = {**_answer("Found.", ref(call.answers)), "links": links}
    if call.ability is None:
        del answers["403"]
    if call.missing:
        answers["404"] = _answer(call.missing, ref("Error"))
    return {
        "operationId": path,
        "summary": call.summary,
        "description": f"Needs the ability {call.ability} or its :write."
        if call.ability
        else "Needs any token.",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(call.asks)}},
        },
        "responses": dict(sorted(answers.items())),
    }


def _refused(path: str, ability: str, why: str) -> Schema:
    answers = {
        "401": _answer(_UNAUTHENTICATED, ref("Error")),
        "403": _answer(f"forbidden: {why}", ref("Error")),
        "429": _answer(_THROTTLED, ref("Error")),
    }
    described = f"Needs the ability {ability}, and is refused with it, too."
    return {
        "post": {
            "operationId": path,
            "summary": "Not available in an archive",
            "description": described,
            "security": [{"token": []}],
            "responses": answers,
        }
    }


def _get(summary: str, schema: Schema, *, not_ready: bool = False) -> Schema:
    answers: Schema = {"200": _answer("Yes.", schema)}
    if not_ready:
        answers["503"] = _answer("not_ready: it cannot at the moment.", ref("Error"))
    return {"get": {"summary": summary, "responses": answers}}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
