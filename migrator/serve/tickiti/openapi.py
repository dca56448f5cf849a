"""The shapes of Tickiti's requests and answers, as JSON Schema for ``GET /openapi.json``.

The OpenAPI document of the endpoint, built from one small table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from migrator import __version__
from migrator.serve.bounds import (
    MAX_GROUPS,
    MAX_LIMIT,
    MAX_LIST,
    MAX_RANGE,
    MAX_ROWS,
    MAX_TOKENS,
)
from migrator.serve.tickiti.criteria import COMBINED, MODES, TEXTS
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


def _request(properties: Schema) -> Schema:
    """Describe a body without required fields, for which PHP may write an empty list."""
    return {"anyOf": [_object(properties, required=()), _NO_LIST]}


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
# What requests may hold, with the habits of PHP and Laravel: see tickiti/requests.py.
_SPACE: Final = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200b\u200e\u2028\u2029\u202f\u205f\u3000\ufeff"
_NOT_SENT: Final[Schema] = {"type": ["null", "string"], "pattern": f"^[{_SPACE}]*$"}
_NO_LIST: Final[Schema] = {"type": "array", "maxItems": 0}
_NO_OBJECT: Final[Schema] = {"type": "object", "maxProperties": 0}


def _optional(schema: Schema, *others: Schema, **more: object) -> Schema:
    """Describe a field that may be left out, be null or blank."""
    return {"anyOf": [schema, *others, _NOT_SENT], **more}


def _optional_number(low: int, texts: str, high: int | None = None, **more: object) -> Schema:
    """Describe an optional integer; ``texts`` is the pattern of those that are texts."""
    number: Schema = {"type": "integer", "minimum": low}
    number |= {} if high is None else {"maximum": high}
    return _optional(number, {"type": "string", "pattern": f"^0{{0,9}}(?:{texts})$"}, **more)


def _one_or_several(item: Schema, **more: object) -> Schema:
    return {"anyOf": [_array(item, minItems=1, maxItems=MAX_LIST), item], **more}


_FLAG_SENT: Final = _optional({"enum": [True, False, 0, 1, "0", "1"]})
_TEXT_SENT: Final[Schema] = {"type": ["string", "null"]}
_ID_SENT: Final[Schema] = {"type": ["string", "integer"], "pattern": f"[^{_SPACE}]"}
_INTEGER_SENT: Final[Schema] = {
    "type": ["string", "integer"],
    "pattern": "^-?[0-9]{1,18}$",
    "minimum": -(10**18) + 1,
    "maximum": 10**18 - 1,
}
_DAY: Final = (
    "[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK: Final = r"[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:Z|\+00:00)?"
_DAY_TEXT: Final[Schema] = {"type": "string", "pattern": f"^{_DAY}(?:{_CLOCK})?$"}
_DAY_SENT: Final = _optional(
    _DAY_TEXT,
    description="YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS, in UTC; February 29 of leap years as well",
    examples=["2026-05-01", "2026-05-01 09:14:02"],
)

_TICKET: Final[Schema] = {
    "ticket_number": {
        **_optional(_ID_SENT),
        "description": "The number of the ticket.",
    },
    "ticket_id": {**_optional(_ID_SENT), "description": "Its internal id, instead of its number."},
}
_ONE_OF_BOTH: Final[Schema] = {
    "oneOf": [
        {"required": [one], "properties": {one: _ID_SENT, other: _NOT_SENT}}
        for one, other in (("ticket_number", "ticket_id"), ("ticket_id", "ticket_number"))
    ]
}


def _fields_sent(names: tuple[str, ...], description: str) -> Schema:
    return _optional(_array({"enum": list(names)}), _NO_OBJECT, description=description)


_PARTS: Final[Schema] = {
    "fields": _fields_sent(HEAVY, "Heavy fields to send; all unless given."),
    "max_body_chars": _optional_number(
        0,
        "[0-9]{1,9}",
        description="Cuts each html and plain_text, and adds html_truncated and the like.",
    ),
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


def _criterion(modes: tuple[str, ...], token: Schema, *matches: str) -> Schema:
    """Describe a criterion of some modes, with what a token of theirs may be."""
    return _object(
        {
            "mode": {"enum": list(modes)},
            "tokens": {"anyOf": [_array(token, minItems=1, maxItems=MAX_TOKENS), token]},
            "match": _optional({"enum": [*matches, "any"]}),
        },
        required=("mode", "tokens"),
    )


_PRIORITY: Final = ("10", "20", "30", "40", "Low", "Normal", "High", "Urgent")
_TOKENS: Final[dict[tuple[str, ...], Schema]] = {
    ("created_from", "created_to", "updated_from", "updated_to"): _DAY_TEXT,
    ("status",): {"enum": ["open", "on-hold", "closed"]},
    ("priority",): {
        "enum": [*_PRIORITY, 10, 20, 30, 40],
        "description": "Or the name of one of Kayako's priorities.",
    },
    ("participant",): {"type": "string", "pattern": "@"},
}
_ORDINARY: Final = tuple(set(MODES).difference(TEXTS, *_TOKENS))
_CRITERION: Final[Schema] = {
    "anyOf": [
        _criterion(TEXTS, _ID_SENT, "all"),
        _criterion(tuple(sorted(_ORDINARY)), _ID_SENT),
        *(_criterion(modes, token) for modes, token in _TOKENS.items()),
    ]
}

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
    "StaffRequest": _request({"search": {**_TEXT_SENT, "description": "Of name or address."}}),
    "AnyBody": {"anyOf": [{"type": "object"}, _NO_LIST], "description": "All of it is ignored."},
    "ThreadRequest": {**_object({**_TICKET, **_PARTS}, required=()), **_ONE_OF_BOTH},
    "AttachmentRequest": {
        **_object(
            {
                **_TICKET,
                "response_attachment_id": _ID_SENT,
                "intent": {
                    **_TEXT_SENT,
                    "description": 'Only "review_ok" says anything.',
                    "examples": ["review_ok"],
                },
                "offset": _optional_number(
                    0,
                    "[0-9]{1,9}",
                    description="First byte of a ranged read. Past the end nothing comes, "
                    "with eof.",
                ),
                "length": _optional_number(
                    1,
                    "[1-9][0-9]{0,6}|1[0-9]{7}|2[0-5][0-9]{6}",
                    MAX_RANGE,
                    description=f"Bytes of a ranged read; {DEFAULT_RANGE} where only offset "
                    "is given.",
                ),
            },
            required=("response_attachment_id",),
        ),
        **_ONE_OF_BOTH,
    },
    "ResponsesRequest": _request(
        {
            "created_from": _DAY_SENT,
            "created_to": _DAY_SENT,
            "is_internal": _FLAG_SENT,
            "staff_response": _FLAG_SENT,
            "queue": _optional(_one_or_several(_ID_SENT), description="Names, or ids."),
            "queue_id": _optional(_one_or_several(_INTEGER_SENT)),
            "ticket_number": _optional(_one_or_several(_ID_SENT)),
            "response_id": _optional(_one_or_several(_INTEGER_SENT)),
            "created_by_email": _TEXT_SENT,
            "has_attachments": _FLAG_SENT,
            "is_empty": {
                **_FLAG_SENT,
                "description": "Whether a body has neither text nor image. A body that was not "
                "kept passes neither.",
            },
            "count_only": {**_FLAG_SENT, "description": "Only data.count comes."},
            "group_by": _optional(
                {"enum": list(GROUPS)},
                description="Only data.count and data.groups come, the largest group first, "
                f"{MAX_GROUPS} of them at most; groups_left_out is how many more there are.",
            ),
            "include_deleted": {
                **_FLAG_SENT,
                "description": "Without effect: what the source deleted later is kept.",
            },
            "metadata_only": _FLAG_SENT,
            "fields": _fields_sent(
                (*HEAVY, *LIGHT),
                f"Of {', '.join(HEAVY)} alone: those, and all other fields. With any other name: "
                "exactly the named ones, response_id and ticket_number.",
            ),
            "max_body_chars": _PARTS["max_body_chars"],
            "limit": _optional_number(
                1, "[1-9][0-9]{0,2}|1000", MAX_LIMIT, description=f"{DEFAULT_LIMIT} unless given."
            ),
            "cursor": _optional(
                _object(
                    {
                        "created_at": {
                            "anyOf": [_DAY_TEXT, {"type": "string", "pattern": "^-?[0-9]{1,18}$"}]
                        },
                        "id": _INTEGER_SENT,
                    }
                ),
                description="The next_cursor of the page before, as it came.",
                examples=[{"created_at": "2026-05-01T09:14:02+00:00", "id": 42}],
            ),
        },
    ),
    "TicketsRequest": _request(
        {
            "search_object": _optional(
                _object(
                    {
                        "search_perspective": _optional(
                            {"type": "string", "pattern": "^[Aa][Ll][Ll]$"},
                            description="The only view is All.",
                        ),
                        "criteria": _optional(
                            _array(_CRITERION, maxItems=MAX_TOKENS),
                            _NO_OBJECT,
                            description=f"{COMBINED} Tokens match: "
                            + "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items())
                            + ". Other modes answer 422.",
                        ),
                    },
                    required=(),
                ),
                _NO_LIST,
            ),
            "row_limit": _optional_number(
                1,
                "[1-9][0-9]{0,2}|[1-4][0-9]{3}|5000",
                MAX_ROWS,
                description=f"{DEFAULT_ROWS} unless given.",
            ),
        },
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
    "not_ready: the archive, or the file, cannot be reached."
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
    "responses": {"operationId": "tickets/responses", "requestBody": {"ticket_id": _SHOWN}},
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
        leads_to=("attachment", "responses", "response", "links"),
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
