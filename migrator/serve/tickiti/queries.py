"""The calls for tickets, responses and queues.

Long answers are sent in pieces while they are made, in constant memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import tempfile
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Final, TypeVar

from starlette.types import Receive, Send

from migrator.archive.records import Response, ResponseFilter, Row, TicketHeader, Token
from migrator.serve.bounds import JSON_BLOCK, MAX_LIMIT, MAX_ROWS, MAX_TOKENS
from migrator.serve.catalog import Catalog, Names
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import start
from migrator.serve.tickiti.requests import Fields, Parts, moment, parts, thread_request
from migrator.serve.tickiti.serializers import (
    attachment_object,
    iso_time,
    number_of,
    response_object,
    ticket_object,
)

DEFAULT_ROWS: Final = 100
DEFAULT_LIMIT: Final = 200
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
"""Responses read at once, with their short texts."""

_SHORT: Final = 4096
"""Characters of a text that is read with others; longer ones are read one by one."""

_ONE_LONG: Final[AbstractContextManager[object]] = threading.Lock()
"""Held while JSON is made of a long text, which takes many times its size."""
_NOTHING: Final[AbstractContextManager[object]] = contextlib.nullcontext()

_SECONDS: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)

T = TypeVar("T")

Body = Mapping[str, object]
Criteria = Mapping[str, list[str]]

After = tuple[int, int]
"""A place in a list of responses: the time and the id of the last one before it."""

Read = Callable[[After | None, int, int | None], Sequence[Response]]
"""A function that reads responses after a place, up to a number, with texts cut to a length."""


class Queries:
    """The calls of the API that read tickets, responses and queues."""

    def __init__(self, catalog: Catalog, readers: Readers) -> None:
        self._catalog = catalog
        self._readers = readers
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
        await self._send(token, self._page_pieces(token, body), receive, send)

    def _page_pieces(self, token: Token, body: Body) -> Iterator[str]:
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
        yield from _page(self._told(read, chosen, _which, after=after, most=limit + 1), limit)

    async def query_tickets(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/query``: the headers of tickets by criteria, latest activity first.

        Tickiti runs saved views here. This server has one of them, the built-in All, filtered by
        the criteria that make sense in an archive.
        """
        await self._send(token, self._tickets(token, body), receive, send)

    def _tickets(self, token: Token, body: Body) -> Iterator[str]:
        fields = Fields(body)
        criteria = _criteria(fields)
        times = _times(fields, criteria)
        limit = fields.integer("row_limit", low=1, high=MAX_ROWS) or DEFAULT_ROWS
        fields.check()
        yield '{"ok": true, "data": ['
        yield from _spooled(self._found(token, criteria, times, limit))
        yield "]}"

    def _found(
        self, token: Token, criteria: Criteria, times: Mapping[str, int], limit: int
    ) -> Iterator[str]:
        # Within a mode the tokens are alternatives, the modes restrict each other.
        found = self._threads.find(
            number=criteria.get("ticket_number", ()),
            subject=criteria.get("subject", ()),
            requester=criteria.get("raised", ()),
            queues=self._catalog.queue_ids(token, names=criteria.get("queue")),
            created=(times.get("created_from"), times.get("created_to")),
            updated=(times.get("updated_from"), times.get("updated_to")),
            deleted=self._settings.serve_deleted,
            limit=limit,
        )
        for number, ticket in enumerate(found):
            yield (", " if number else "") + json.dumps(ticket_object(ticket))

    async def queues(self, token: Token, _body: Body, receive: Receive, send: Send) -> None:
        """``tickets/queues``, which later clients call."""

        def pieces() -> Iterator[str]:
            yield json.dumps({"ok": True, "data": {"queues": self._queues(token)}})

        await self._send(token, pieces(), receive, send)

    async def workflow_queues(
        self, token: Token, _body: Body, receive: Receive, send: Send
    ) -> None:
        """``workflow/queues``, which the first clients call: bare, without an envelope."""

        def pieces() -> Iterator[str]:
            yield json.dumps({"queues": self._queues(token)})

        await self._send(token, pieces(), receive, send)

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
        await self._send(token, self._thread_pieces(token, body, head_of), receive, send)

    def _thread_pieces(
        self, token: Token, body: Body, head_of: Callable[[TicketHeader], dict[str, object]]
    ) -> Iterator[str]:
        name, chosen = thread_request(body)
        ticket = self._catalog.ticket(token, id=name.id, number=name.number)

        def read(after: After | None, limit: int, text_limit: int | None) -> list[Response]:
            return self._threads.responses(
                ticket.id, after=after, limit=limit, text_limit=text_limit
            )

        head = json.dumps({"ok": True, "data": {**head_of(ticket), "responses": []}})
        yield head.removesuffix("]}}")
        for number, (_, told) in enumerate(self._told(read, chosen)):
            yield ", " if number else ""
            yield from told
        yield "]}}"

    async def _send(
        self, token: Token, pieces: Iterator[str], receive: Receive, send: Send
    ) -> None:
        """Send the pieces of a JSON document, all of them ASCII, which readers make.

        A short answer has its length in its head and fails before it is begun; a long one is sent
        in chunks and stays incomplete when making it fails. Stops when the client has gone.
        """
        blocks = _blocks(pieces)
        async with watch(receive) as gone:

            def run(work: Callable[[], T]) -> Awaitable[T]:
                return self._readers.run(token.id, gone, work)

            first, second = await run(lambda: (next(blocks, b""), next(blocks, None)))
            if second is None:
                await start(send, 200, len(first))
                await send({"type": "http.response.body", "body": first})
                return
            await start(send, 200, None)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            while second is not None and not gone.done():
                await send({"type": "http.response.body", "body": second, "more_body": True})
                second = await run(lambda: next(blocks, None))
            if second is None:
                await send({"type": "http.response.body", "body": b""})

    def _told(
        self,
        read: Read,
        chosen: Parts,
        which: Callable[[Response], Mapping[str, object]] = lambda _: {},
        *,
        after: After | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[Response, Iterable[str]]]:
        """Yield responses from ``after`` on, ``most`` of them at most, each with its JSON.

        ``which`` returns fields that come before the others.
        """
        text_limit = _SHORT + 1 if chosen.heavy else 0
        names = self._catalog.names()
        while most is None or most > 0:
            wanted = PAGE if most is None else min(PAGE, most)
            page = read(after, wanted, text_limit)
            files: Mapping[int, list[Row]] = {}
            if page and "attachments" in chosen.heavy:
                files = self._threads.attachments_of([one.id for one in page])
            for one in page:
                rows = [row for row in files.get(one.id, []) if self._settings.serves(row)]
                with _ONE_LONG if len(one.text) > _SHORT else _NOTHING:
                    told = self._json(one, chosen, rows, names, which(one))
                yield one, told
            if len(page) < wanted:
                return
            after = (page[-1].created_at, page[-1].id)
            most = None if most is None else most - wanted

    def _json(
        self,
        one: Response,
        chosen: Parts,
        rows: Sequence[Row],
        names: Names,
        which: Mapping[str, object],
    ) -> Iterable[str]:
        is_long = len(one.text) > _SHORT
        if is_long:
            one = dataclasses.replace(one, text=self._threads.text(one.id))
        inline = self._catalog.inline_images(one, rows, names)
        objects = [attachment_object(row, is_inline=row.id in inline) for row in rows]
        told = {**which, **response_object(one, chosen, objects)}
        return _spooled(_json_pieces(told)) if is_long else [json.dumps(told)]

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


def _page(found: Iterator[tuple[Response, Iterable[str]]], limit: int) -> Iterator[str]:
    cursor, last = None, None
    yield '{"ok": true, "data": {"responses": ['
    for number, (response, told) in enumerate(found):
        if number == limit:
            cursor = last and {"created_at": _cursor_time(last.created_at), "id": last.id}
            break
        yield ", " if number else ""
        yield from told
        last = response
    yield f'], "next_cursor": {json.dumps(cursor)}' + "}}"


def _which(response: Response) -> Mapping[str, object]:
    return {
        "response_id": str(response.id),
        "ticket_number": number_of(response.ticket_number),
        "ticket_id": str(response.ticket_id),
        "queue_id": str(response.queue_id),
    }


def _spooled(pieces: Iterable[str]) -> Iterator[str]:
    """Return all pieces, made now; what is long waits on the disk for a slow client."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(JSON_BLOCK))
        file.writelines(piece.encode("ascii") for piece in pieces)
        file.seek(0)
        kept = stack.pop_all()
    return _read_back(file, kept)


def _json_pieces(told: Mapping[str, object]) -> Iterator[str]:
    # Bit by bit: all threads wait while json encodes a text.
    for number, (name, value) in enumerate(told.items()):
        yield f"{', ' if number else '{'}{json.dumps(name)}: "
        if isinstance(value, str):
            yield '"'
            for at in range(0, len(value), JSON_BLOCK):
                yield json.dumps(value[at : at + JSON_BLOCK])[1:-1]
            yield '"'
        else:
            yield json.dumps(value)
    yield "}"


def _read_back(file: IO[bytes], kept: contextlib.ExitStack) -> Iterator[str]:
    with kept:
        while piece := file.read(JSON_BLOCK):
            yield piece.decode("ascii")


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
    if sum(map(len, found.values())) > MAX_TOKENS:
        fields.wrong("search_object", f"These criteria have over {MAX_TOKENS} tokens.")
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


def _blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece.encode("ascii")
        if len(block) >= JSON_BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
