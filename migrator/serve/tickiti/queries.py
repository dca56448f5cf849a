"""The calls for tickets, responses and queues.

Long answers are sent in pieces while they are made, in constant memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, Final, TypeVar

from starlette.types import Receive, Send

from migrator.archive.records import Response, ResponseFilter, Row, TicketHeader, Token
from migrator.archive.search import BATCH
from migrator.archive.threads import TALLIES
from migrator.errors import ArchiveError
from migrator.serve.bounds import JSON_BLOCK, MAX_GROUPS, MAX_LIMIT, MAX_PEOPLE, MAX_ROWS
from migrator.serve.catalog import Catalog, Names
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import Refusal, as_json, start
from migrator.serve.tickiti.criteria import Asked, find_arguments, names_texts
from migrator.serve.tickiti.requests import (
    Fields,
    Parts,
    moment,
    parts,
    response_request,
    thread_request,
)
from migrator.serve.tickiti.serializers import (
    attachment_object,
    iso_time,
    linked_tickets,
    number_of,
    participants,
    response_object,
    ticket_object,
)

DEFAULT_ROWS: Final = 100
DEFAULT_LIMIT: Final = 200
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
    "audit",
    "is_audit_only",
    "body_chars",
)
"""The fields of a row beside the heavy ones; who names one of them gets what is named only."""

ALWAYS: Final = frozenset(("response_id", "ticket_number"))
"""The fields that come even so."""

GROUPS: Final = tuple(TALLIES)

NO_FILTERS: Final = (
    *("search_object", "criteria", "ticket_id", "subject", "content", "subject_content", "raised"),
    *("participant", "assigned", "status", "priority", "watchlist", "hashtag"),
    *("updated_from", "updated_to"),
)
"""Filters of tickets: ignored here, they would leave an answer that was not asked for."""

PAGE: Final = 16
"""Responses read at once, with their short texts."""

_SHORT: Final = 4096
"""Characters of a text that is read with others; longer ones are read one by one."""

_ONE_LONG: Final[AbstractContextManager[object]] = threading.Lock()
"""Held while JSON is made of a long text, which takes many times its size."""
_NOTHING: Final[AbstractContextManager[object]] = contextlib.nullcontext()

_SECONDS: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)

_TALLIED: Final[Mapping[str, Callable[[Any], object]]] = {
    "ticket_number": number_of,
    "is_internal": bool,
    "staff_response": bool,
}

T = TypeVar("T")

Body = Mapping[str, object]

After = tuple[int, int]
"""A place in a list of responses: the time and the id of the last one before it."""

Read = Callable[[After | None, int, int | None], Sequence[Response]]
"""A function that reads responses after a place, up to a number, with texts cut to a length."""


class Queries:
    """The calls of the API that read tickets, responses and queues."""

    def __init__(self, catalog: Catalog, readers: Readers, searchers: Readers) -> None:
        """Let ``searchers`` search texts, and ``readers`` read all else."""
        self._catalog = catalog
        self._readers = readers
        self._searchers = searchers
        self._indexing = threading.Lock()
        self._threads = catalog.archive.threads
        self._settings = catalog.settings

    async def show(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/show``: the header of a ticket and its responses, oldest first."""

        def head_of(ticket: TicketHeader) -> dict[str, object]:
            told = ticket_object(ticket)
            authors = self._threads.authors(ticket.id, limit=MAX_PEOPLE + 1)
            told |= participants(ticket, authors)
            told |= linked_tickets(self._catalog.merged(token, ticket))
            return {"ticket": told}

        await self._thread(token, body, head_of, receive, send)

    async def responses(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/responses``: the responses of a ticket without its header."""
        await self._thread(
            token,
            body,
            lambda ticket: {"ticket_number": number_of(ticket.ticket_number)},
            receive,
            send,
        )

    async def response(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/response``: one response, by its id."""
        await self._send(token, self._response_pieces(token, body), receive, send)

    def _response_pieces(self, token: Token, body: Body) -> Iterator[str]:
        response_id, chosen = response_request(body)
        found = None if response_id is None else self._threads.response(response_id, text_limit=0)
        if found is None or self._catalog.ticket(token, id=found.ticket_id).id != found.ticket_id:
            raise Refusal(404, "not_found", "There is no response with this id.")

        def read(_after: After | None, _limit: int, text_limit: int | None) -> list[Response]:
            one = self._threads.response(found.id, text_limit=text_limit)
            return [] if one is None else [one]

        ((_, told),) = self._told(read, chosen, _which, most=1)
        yield '{"ok":true,"data":'
        yield from told
        yield "}"

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
            chosen = dataclasses.replace(chosen, heavy=frozenset())
        limit = fields.integer("limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT
        after = _cursor(fields)
        by = fields.choice("group_by", GROUPS)
        count_only = fields.flag("count_only")
        fields.check()
        if by or count_only:
            yield as_json({"ok": True, "data": self._tally(wanted, by)})
            return

        def read(after: After | None, limit: int, text_limit: int | None) -> list[Response]:
            return self._threads.query(wanted, after=after, limit=limit, text_limit=text_limit)

        # One more than is sent shows whether there is a next page.
        yield from _page(self._told(read, chosen, _which, after=after, most=limit + 1), limit)

    def _tally(self, wanted: ResponseFilter, by: str | None) -> dict[str, object]:
        count, groups, tallies = self._threads.tally(wanted, by, limit=MAX_GROUPS)
        if by is None:
            return {"count": count}
        told = [{by: _TALLIED.get(by, str)(value), "count": number} for value, number in tallies]
        return {"count": count, "groups": told, "groups_left_out": groups - len(told)}

    async def query_tickets(self, token: Token, body: Body, receive: Receive, send: Send) -> None:
        """``tickets/query``: the headers of tickets by criteria, latest activity first.

        Tickiti runs saved views here. This server has one of them, the built-in All, filtered by
        the criteria that make sense in an archive.
        """
        readers = self._searchers if names_texts(body) else self._readers
        await self._send(token, self._tickets(token, body), receive, send, readers)

    def _tickets(self, token: Token, body: Body) -> Iterator[str]:
        fields = Fields(body)
        asked = find_arguments(fields, lambda: self._threads.titles("priority"))
        limit = fields.integer("row_limit", low=1, high=MAX_ROWS) or DEFAULT_ROWS
        fields.check()
        yield '{"ok":true,"data":['
        yield from _spooled(self._found(token, asked, limit))
        yield "]}"

    def _found(self, token: Token, asked: Asked | None, limit: int) -> Iterator[str]:
        if asked is None:
            return
        arguments, names = asked
        if self._threads.unindexed(BATCH + 1) > BATCH and not self._catalog.archive.read_only:
            threading.Thread(target=self._index, name="indexer", daemon=True).start()
        found = self._threads.find(
            **arguments,
            queues=self._catalog.queue_ids(token, names=names),
            deleted=self._settings.serve_deleted,
            limit=limit,
        )
        for first in range(0, len(found), PAGE):
            told = [ticket_object(one) for one in found[first : first + PAGE]]
            yield ("," if first else "") + as_json(told)[1:-1]

    def _index(self) -> None:
        """Index the texts of an archive that an older version made, half of the time."""
        with contextlib.ExitStack() as stack:
            if not self._indexing.acquire(blocking=False):
                return
            stack.callback(self._indexing.release)
            stack.enter_context(contextlib.suppress(ArchiveError))  # the next search tries again
            began = time.monotonic()
            while self._threads.index_texts():
                time.sleep(time.monotonic() - began)
                began = time.monotonic()

    async def queues(self, token: Token, _body: Body, receive: Receive, send: Send) -> None:
        """``tickets/queues``, which later clients call."""

        def pieces() -> Iterator[str]:
            yield as_json({"ok": True, "data": {"queues": self._queues(token)}})

        await self._send(token, pieces(), receive, send)

    async def workflow_queues(
        self, token: Token, _body: Body, receive: Receive, send: Send
    ) -> None:
        """``workflow/queues``, which the first clients call: bare, without an envelope."""

        def pieces() -> Iterator[str]:
            yield as_json({"queues": self._queues(token)})

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

        head = as_json({"ok": True, "data": {**head_of(ticket), "responses": []}})
        yield head.removesuffix("]}}")
        for number, (_, told) in enumerate(self._told(read, chosen)):
            yield "," if number else ""
            yield from told
        yield "]}}"

    async def _send(
        self,
        token: Token,
        pieces: Iterator[str],
        receive: Receive,
        send: Send,
        readers: Readers | None = None,
    ) -> None:
        """Send the pieces of a JSON document, all of them ASCII, which readers make.

        A short answer has its length in its head and fails before it is begun; a long one is sent
        in chunks and stays incomplete when making it fails. Stops when the client has gone.
        """
        blocks, readers = _blocks(pieces), readers or self._readers
        async with watch(receive) as gone:

            def run(work: Callable[[], T]) -> Awaitable[T]:
                return readers.run(token.id, gone, work)

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
        if chosen.only is not None:
            kept = chosen.only | ALWAYS
            told = {
                name: value
                for name, value in told.items()
                if name.removesuffix("_truncated") in kept
            }
        return _spooled(_json_pieces(told)) if is_long else [as_json(told)]

    def _filter(self, fields: Fields, token: Token) -> ResponseFilter:
        for name in NO_FILTERS:
            if fields.has(name):
                fields.wrong(name, f"The {name} field is no filter of responses.")
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
            is_empty=fields.flag("is_empty"),
            deleted=self._settings.serve_deleted,
            unread=not self._settings.posts_follow,
        )
        fields.flag("include_deleted")  # Kayako deletes posts without a trace
        return wanted


def _page(found: Iterator[tuple[Response, Iterable[str]]], limit: int) -> Iterator[str]:
    cursor, last = None, None
    yield '{"ok":true,"data":{"responses":['
    for number, (response, told) in enumerate(found):
        if number == limit:
            cursor = last and {"created_at": _cursor_time(last.created_at), "id": last.id}
            break
        yield "," if number else ""
        yield from told
        last = response
    yield f'],"next_cursor":{as_json(cursor)}' + "}}"


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
        yield f"{',' if number else '{'}{as_json(name)}:"
        if isinstance(value, str):
            yield '"'
            for at in range(0, len(value), JSON_BLOCK):
                yield as_json(value[at : at + JSON_BLOCK])[1:-1]
            yield '"'
        else:
            yield as_json(value)
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


def _blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece.encode("ascii")
        if len(block) >= JSON_BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
