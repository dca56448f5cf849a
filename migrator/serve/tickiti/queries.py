"""The calls for tickets, responses and queues.

Long answers are sent in pieces while they are made, in constant memory.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from starlette.types import Receive, Send

from migrator.archive.records import Response, ResponseFilter, TicketHeader, Token
from migrator.serve.catalog import Catalog
from migrator.serve.content import watch
from migrator.serve.refusals import send_json, start
from migrator.serve.tickiti.requests import Fields, Parts, moment, parts, thread_request
from migrator.serve.tickiti.serializers import (
    attachment_object,
    iso_time,
    number_of,
    response_object,
    ticket_object,
)

DEFAULT_ROWS: Final = 100
MAX_ROWS: Final = 5000
DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 1000

MODES: Final = (
    "ticket_number",
    "queue",
    "subject",
    "raised",
    "created_from",
    "created_to",
    "updated_from",
    "updated_to",
)
MAX_SEARCHES: Final = 50
"""Combinations of alternative criteria in one request, each of which is a separate search."""

LIGHT: Final = (
    "response_id",
    "ticket_number",
    "ticket_id",
    "queue_id",
    "id",
    "is_internal",
    "is_pinned",
    "staff_response",
    "created_by_email",
    "created_at",
    "updated_at",
    "is_email_sourced",
    "created_by_name",
)
"""The fields that every row has; naming them in ``fields`` is allowed and changes nothing."""

REFUSED: Final = ("is_empty", "count_only", "group_by")
"""Options of later servers, refused here: a client must not take rows for counts."""

PAGE: Final = 16
"""Responses read at once: each may have megabytes of text."""

_BLOCK: Final = 64 * 1024
_SECONDS: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)

Body = Mapping[str, object]
Criteria = Mapping[str, list[str]]

After = tuple[int, int]
"""A place in a list of responses: the time and the id of the last one before it."""

Read = Callable[[After | None, int, int | None], Sequence[Response]]
"""A function that reads responses after a place, up to a number, with texts cut to a length."""


class Queries:
    """The calls of the API that read tickets, responses and queues."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._threads = catalog.archive.threads
        self._settings = catalog.settings

    async def show(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/show``: the header of a ticket and its responses, oldest first."""
        await self._thread(
            token, body, lambda ticket: {"ticket": ticket_object(ticket)}, receive, send
        )

    async def responses(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/responses``: the responses of a ticket without its header."""
        await self._thread(
            token,
            body,
            lambda ticket: {"ticket_number": number_of(ticket.ticket_number)},
            receive,
            send,
        )

    async def query_responses(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/responses/query``: responses over all tickets, page by page, oldest first.

        The cursor is the time and the id of the last row. Rows that a sync adds behind it are not
        seen by this pass; all others come exactly once.
        """
        fields = Fields(body)
        wanted = self._filter(fields, token)
        chosen = parts(fields, LIGHT)
        if fields.flag("metadata_only"):
            chosen = Parts(frozenset(), None)
        limit = fields.integer("limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT
        after = _cursor(fields)
        fields.check()

        def read(after: After | None, limit: int, text_limit: int | None) -> list[Response]:
            return self._threads.query(wanted, after=after, limit=limit, text_limit=text_limit)

        # One more than is sent shows whether there is a next page.
        found = self._told(read, chosen, after=after, most=limit + 1)
        await _send_pieces(_page(found, limit), receive, send)

    async def query_tickets(self, token: Token, body: Body, _receive: Receive, send: Send) -> None:
        """``tickets/query``: the headers of tickets by criteria, latest activity first.

        Tickiti runs saved views here. This server has one of them, the built-in All, filtered by
        the criteria that make sense in an archive.
        """
        fields = Fields(body)
        criteria = _criteria(fields)
        times = _times(fields, criteria)
        limit = fields.integer("row_limit", low=1, high=MAX_ROWS) or DEFAULT_ROWS
        fields.check()
        queues = self._catalog.queue_ids(token, names=criteria.get("queue"))
        found: dict[int, TicketHeader] = {}
        # Within a mode the tokens are alternatives, the modes restrict each other.
        for number, subject, requester in _combinations(criteria):
            tickets = self._threads.find(
                number=number,
                subject=subject,
                requester=requester,
                queues=queues,
                created=(times.get("created_from"), times.get("created_to")),
                updated=(times.get("updated_from"), times.get("updated_to")),
                deleted=self._settings.serve_deleted,
                limit=limit,
            )
            found |= {each.id: each for each in tickets}
        newest = sorted(found.values(), key=lambda each: (-each.last_activity, -each.id))
        await send_json(send, {"ok": True, "data": list(map(ticket_object, newest[:limit]))})

    async def queues(self, token: Token, _body: Body, _receive: Receive, send: Send) -> None:
        """``tickets/queues``, which later clients call."""
        await send_json(send, {"ok": True, "data": {"queues": self._queues(token)}})

    async def workflow_queues(
        self, token: Token, _body: Body, _receive: Receive, send: Send
    ) -> None:
        """``workflow/queues``, which the first clients call: bare, without an envelope."""
        await send_json(send, {"queues": self._queues(token)})

    def _queues(self, token: Token) -> list[dict[str, object]]:
        return [
            {"id": str(queue_id), "name": name, "tickets": tickets}
            for queue_id, name, tickets in self._catalog.queues(token)
        ]

    async def _thread(
        self,
        token: Token,
        body: Body,
        head_of: Callable[[TicketHeader], dict[str, object]],
        receive: Receive,
        send: Send,
    ) -> None:
        name, chosen = thread_request(body)
        ticket = self._catalog.ticket(token, id=name.id, number=name.number)

        def read(after: After | None, limit: int, text_limit: int | None) -> list[Response]:
            return self._threads.responses(
                ticket.id, after=after, limit=limit, text_limit=text_limit
            )

        head = json.dumps({"ok": True, "data": {**head_of(ticket), "responses": []}})
        told = (each for _, each in self._told(read, chosen))
        pieces = itertools.chain([head.removesuffix("]}}")], _joined(told), ["]}}"])
        await _send_pieces(pieces, receive, send)

    def _told(
        self, read: Read, chosen: Parts, *, after: After | None = None, most: int | None = None
    ) -> Iterator[tuple[Response, dict[str, object]]]:
        """Yield responses from ``after`` on, ``most`` of them at most, each with its object."""
        text_limit = None if chosen.heavy else 0
        while most is None or most > 0:
            wanted = PAGE if most is None else min(PAGE, most)
            page = read(after, wanted, text_limit)
            files = {}
            if page and "attachments" in chosen.heavy:
                files = self._threads.attachments_of([one.id for one in page])
            for one in page:
                rows = [row for row in files.get(one.id, []) if self._settings.serves(row)]
                inline = self._catalog.inline_images(one, rows)
                objects = [attachment_object(row, is_inline=row.id in inline) for row in rows]
                yield one, response_object(one, chosen, objects)
            if len(page) < wanted:
                return
            after = (page[-1].created_at, page[-1].id)
            most = None if most is None else most - wanted

    def _filter(self, fields: Fields, token: Token) -> ResponseFilter:
        for name in REFUSED:
            if fields.has(name):
                fields.wrong(name, f"The {name} field is not supported by this server.")
        responses = fields.integers("response_id")
        numbers = fields.identifiers("ticket_number")
        queues = self._catalog.queue_ids(
            token, names=fields.identifiers("queue"), ids=fields.integers("queue_id")
        )
        wanted = ResponseFilter(
            queues=queues,
            ticket_numbers=None if numbers is None else frozenset(numbers),
            created_from=fields.moment("created_from"),
            created_to=fields.moment("created_to", end=True),
            is_internal=fields.flag("is_internal"),
            staff=fields.flag("staff_response"),
            response_ids=None if responses is None else frozenset(responses),
            author_email=fields.text("created_by_email"),
            has_attachments=fields.flag("has_attachments"),
            deleted=self._settings.serve_deleted,
            unread=not self._settings.posts_follow,
        )
        fields.flag("include_deleted")  # Kayako deletes posts without a trace
        return wanted


def _page(found: Iterator[tuple[Response, dict[str, object]]], limit: int) -> Iterator[str]:
    cursor, last = None, None
    yield '{"ok": true, "data": {"responses": ['
    for number, (response, told) in enumerate(found):
        if number == limit:
            cursor = last and {"created_at": _cursor_time(last.created_at), "id": last.id}
            break
        which = {
            "response_id": str(response.id),
            "ticket_number": number_of(response.ticket_number),
            "ticket_id": str(response.ticket_id),
            "queue_id": str(response.queue_id),
        }
        yield (", " if number else "") + json.dumps({**which, **told})
        last = response
    yield f'], "next_cursor": {json.dumps(cursor)}' + "}}"


def _joined(objects: Iterator[dict[str, object]]) -> Iterator[str]:
    for number, one in enumerate(objects):
        yield (", " if number else "") + json.dumps(one)


def _cursor_time(seconds: int) -> str:
    """Return a time that :func:`_cursor` reads as the same, even beyond the calendar."""
    text = iso_time(seconds)
    return text if moment(text) == seconds else str(seconds)


def _cursor(fields: Fields) -> After | None:
    sent = fields.mapping("cursor")
    if sent is None:
        return None
    created = sent.text("created_at") or ""
    seconds = int(created) if _SECONDS.fullmatch(created) else moment(created)
    found = sent.integers("id")
    if seconds is None or not found:
        fields.wrong("cursor", "The cursor field must be the next_cursor of an earlier page.")
        return None
    return seconds, found[0]


def _combinations(criteria: Criteria) -> list[tuple[str, str, str]]:
    numbers, subjects, people = (
        criteria.get(mode) or [""] for mode in ("ticket_number", "subject", "raised")
    )
    return list(itertools.product(numbers, subjects, people))


def _criteria(fields: Fields) -> Criteria:
    """Read the criteria: mode → its tokens, for the modes that were sent."""
    search = fields.mapping("search_object")
    found: defaultdict[str, list[str]] = defaultdict(list)
    _check_view(fields, search)
    for each in (search and search.mappings("criteria")) or ():
        mode = each.text("mode") or ""
        tokens = each.identifiers("tokens") or []
        if mode not in MODES:
            each.wrong("mode", f"The mode of a criterion must be one of {', '.join(MODES)}.")
        elif not each.has("tokens"):
            each.wrong("tokens", f"The {mode} criterion needs tokens.")
        match = each.text("match") or "any"
        if match not in ("any", "all") or (match == "all" and len(tokens) > 1):
            each.wrong("match", "A criterion with several tokens can match any of them only.")
        found[mode] += tokens
        fields.adopt("search_object.criteria", each)
    if search is not None:
        fields.adopt("search_object", search)
    if len(_combinations(found)) > MAX_SEARCHES:
        fields.wrong("search_object", f"These criteria are over {MAX_SEARCHES} alternatives.")
    return found


def _check_view(fields: Fields, search: Fields | None) -> None:
    """Refuse saved views: only the built-in All exists here, and no view has an id."""
    refused = "Only the built-in view All is available; name it, or name no view."
    if fields.has("perspective_id"):
        fields.wrong("perspective_id", refused)
    if search is None:
        return
    if search.has("search_perspective_id"):
        search.wrong("search_perspective_id", refused)
    name = search.text("search_perspective")
    if name is not None and name.strip().lower() != "all":
        search.wrong("search_perspective", refused)


def _times(fields: Fields, criteria: Criteria) -> dict[str, int]:
    """Return the widest bounds given: alternatives of a mode are joined by or."""
    found: dict[str, int] = {}
    for mode in MODES[4:]:
        end = mode.endswith("_to")
        bounds = [moment(text, end=end) for text in criteria.get(mode, ())]
        known = [each for each in bounds if each is not None]
        if len(known) != len(bounds):
            fields.wrong("search_object.criteria", f"The tokens of {mode} must be YYYY-MM-DD.")
        elif known:
            found[mode] = max(known) if end else min(known)
    return found


async def _send_pieces(pieces: Iterator[str], receive: Receive, send: Send) -> None:
    """Send the pieces of a JSON document, all of them ASCII.

    A short answer has its length in its head and fails before it is begun; a long one is sent
    in chunks and stays incomplete when making it fails. Stops when the client has gone.
    """
    blocks = _blocks(pieces)
    first = next(blocks, b"")
    second = next(blocks, None)
    if second is None:
        await start(send, 200, len(first))
        await send({"type": "http.response.body", "body": first})
        return
    await start(send, 200, None)
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async with watch(receive) as gone:
        while second is not None and not gone.done():
            await send({"type": "http.response.body", "body": second, "more_body": True})
            await asyncio.sleep(0)  # lets others run: building blocks never waits
            second = next(blocks, None)
        if second is None:
            await send({"type": "http.response.body", "body": b""})


def _blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece.encode("ascii")
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
