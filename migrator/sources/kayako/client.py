"""The client of Kayako Classic: calls that return typed records.

Every read is tried again where that can help; writes (upload, delete) are sent once, because
without an answer it is unknown whether they happened.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any, Protocol, Self, TypeVar

import httpx

from migrator.errors import (
    BadRequest,
    NotFound,
    NotXml,
    PartialReply,
    SourceError,
    SourceRefused,
    Throttled,
    TooLarge,
    UnexpectedReply,
)
from migrator.events import Listener, ignore
from migrator.sources.base import (
    Attachment,
    Contents,
    CopySink,
    CustomFields,
    Department,
    Fetched,
    FetchSink,
    HashSink,
    Label,
    Ticket,
    TicketStatus,
    in_pool,
    raise_if_final,
)
from migrator.sources.kayako import links, lists, replies
from migrator.sources.kayako.contents import ContentsReader, Shape
from migrator.sources.kayako.fields import (
    Definitions,
    Encoding,
    FieldsReader,
    PasswordVeil,
    fields_of,
    file_of,
    parts_of,
)
from migrator.sources.kayako.signing import KayakoSettings, Veil
from migrator.sources.kayako.transport import Transport
from migrator.sources.pace import Breaker, Clock, Pacer, Retrier, Sleep

AT_ONCE = 16 * 1024
"""Bytes of a list up to which parsing is quicker than changing threads."""
BLOCK = 1 << 20
"""Bytes of a spooled list that are kept in memory."""
STATUSES = "/Tickets/TicketStatus"
_FIELDS = "/Tickets/TicketCustomField"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound=FetchSink)


_Choice = Callable[[list[tuple[Contents, S]]], tuple[Contents, S]]


class Client:
    """One Kayako server.

    Network traffic stays on the event loop; parsing, decoding and the sinks run in ``pool`` (the
    loop's default pool when None), each reply in one thread at a time. Every call raises
    SourceError when the server did not send what was requested. A ``patient`` source that was
    answered before waits for a server that goes away, up to the patience of the settings, before
    all calls raise SourceDown; calls by hand should fail at once. ``requests`` counts the calls by
    kind: pages, lists, fetches and others.
    """

    def __init__(
        self,
        settings: KayakoSettings,
        *,
        pool: Executor | None = None,
        listener: Listener = ignore,
        inner: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
        patient: bool = False,
    ) -> None:
        pacer = Pacer(
            settings.concurrency,
            settings.requests_per_second,
            clock=clock,
            sleep=sleep,
            listener=listener,
            halted=settings.halted,
            rate=settings.rate,
        )
        self._pacer = pacer
        self._transport = Transport(settings, pacer, inner=inner)
        self._patient = patient
        self._breaker = Breaker(
            self._probe, pacer, patience=settings.patience, listener=listener, sleep=sleep
        )
        self._retrying = Retrier(
            settings.attempts,
            pacer,
            listener=listener,
            sleep=sleep,
            breaker=self._breaker if patient else None,
        )
        self._pool = pool
        self._parsing = asyncio.Lock()
        self.requests: Counter[str] = Counter()
        self._encoding = Encoding()
        self._credentials = settings.credentials

    async def __aenter__(self) -> Self:
        """Return the source itself; nothing is connected before the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._breaker.aclose()
        await self._transport.aclose()

    async def departments(self) -> list[Department]:
        """Return all departments, those of other apps (livechat) too.

        Raises PartialReply, as all lists do, when only a part of them is readable.
        """
        path, what = "/Base/Department", "the departments"
        return await self._ask("others", path, what, lists.parse_departments, alone=False)

    async def statuses(self) -> list[TicketStatus]:
        """Return all ticket statuses; ListAll needs every id to show closed tickets too."""
        what = "the ticket statuses"
        return await self._ask("others", STATUSES, what, lists.parse_statuses, alone=False)

    async def labels(self, kind: str) -> list[Label]:
        """Return the names of a kind of :data:`lists.LABELS`, as far as they can be read.

        Old servers lack the call, and a key may not be allowed to make it: then there are none.
        """
        path, what = lists.LABELS[kind][0], f"the names of each {kind}"
        try:
            return await self._ask("others", path, what, partial(lists.parse_labels, kind=kind))
        except PartialReply as error:
            return list(error.rows)
        except SourceError as error:
            raise_if_final(error)
            return []

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[Ticket]:
        """Return ``count`` tickets from row ``start`` on.

        Old servers know neither count nor start and answer with everything. Raises PartialReply
        when a row is damaged, and BadRequest for a page that is refused while other requests are
        answered.
        """
        where = f"{_ids(department_ids)}/{_ids(status_ids)}/-1/-1"
        path = f"/Tickets/Ticket/ListAll/{where}/{count}/{start}/{sort}/{order}"
        what = f"tickets from row {start}"
        return await self._ask("pages", path, what, lists.parse_tickets)

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        """Return the number of tickets by the rules of ListAll; None where the server cannot say.

        The call is undocumented and missing in older versions, which take its name for an id.
        """
        where = f"{_ids(department_ids)}/{_ids(status_ids)}/-1/-1"
        path, what = f"/Tickets/Ticket/GetTicketCount/{where}", "the number of tickets"
        try:
            return await self._ask("others", path, what, lists.parse_ticket_count)
        except (NotFound, BadRequest, NotXml, UnexpectedReply):
            return None

    async def ticket(self, ticket_id: int) -> Ticket:
        """Return one ticket with its posts; a merged one answers with the surviving ticket.

        Raises NotFound for a deleted ticket.
        """
        return await self._ticket(ticket_id, lists.parse_ticket)

    async def copied_ticket(self, ticket_id: int, copy: CopySink) -> Ticket:
        """Do as :meth:`ticket`; the reply goes into ``copy`` as far as it can be read."""

        def parse(body: bytes, *, what: str) -> list[Ticket]:
            try:
                found = lists.parse_ticket(body, what=what)
            except PartialReply:
                _copy(copy, body)
                raise
            _copy(copy, body)
            return found

        return await self._ticket(ticket_id, parse)

    async def _ticket(self, ticket_id: int, parse: _Parse[list[Ticket]]) -> Ticket:
        path, what = f"/Tickets/Ticket/{ticket_id}", f"ticket {ticket_id}"
        tickets = await self._ask("others", path, what, parse)
        if len(tickets) != 1:
            raise UnexpectedReply(f"the reply for {what} holds {len(tickets)} tickets")
        return tickets[0]

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        """Return the attachments of a ticket's posts, by id; Kayako sends them in no order.

        Raises PartialReply when the reply holds anything but rows of that ticket. A damaged
        row with a readable id is returned with the note ``odd_row``.
        """
        path = f"/Tickets/TicketAttachment/ListAll/{ticket_id}"
        what = f"the attachments of ticket {ticket_id}"
        parse = partial(lists.parse_attachments, ticket_id=ticket_id)
        found = await self._ask("lists", path, what, parse)
        return sorted(found, key=lambda one: one.id)

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment into a sink, which is whole when this returns.

        Raises UnexpectedReply when the reply holds anything but that attachment of that ticket.
        """
        path = f"/Tickets/TicketAttachment/{ticket_id}/{attachment_id}"
        what = f"attachment {attachment_id} of ticket {ticket_id}"
        only = partial(_only, ticket_id=ticket_id, attachment_id=attachment_id, what=what)
        return await self.fetch_from(path, what, make_sink, only, ticket_id=ticket_id)

    async def fetch_from(
        self, path: str, what: str, make_sink: Callable[[], S], only: _Choice[S], **how: Any
    ) -> Fetched[S]:
        """Stream the one attachment at a path; ``only`` returns it from what the reply holds."""
        self.requests["fetches"] += 1

        def check(found: list[tuple[Contents, S]]) -> tuple[Contents, S]:
            contents, sink = only(found)
            # Whether it is a ThoroughSink: isinstance would take as long as reading the reply.
            if (finish := getattr(sink, "finish", None)) is not None:
                finish(contents)
            return contents, sink

        async def once() -> tuple[Contents, S]:
            return await self._stream(path, what, make_sink, check, most=1, **how)

        (contents, sink), attempts = await self._read(what, once)
        return Fetched(contents, sink, attempts)

    async def fetch_linked(
        self, place: str, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream the public file at a path of the helpdesk's host into a sink.

        What is no file may come from a firewall that turns everybody away: so it counts only if
        the API answers, and it comes again.
        """
        self.requests["fetches"] += 1
        receive = partial(
            links.receive, self._transport, place, attachment_id, make_sink, self._pool
        )

        async def once() -> tuple[Contents, S]:
            with suppress(NotFound, BadRequest):
                contents, sink = await receive()
                if contents.present:
                    return contents, sink
                sink.abort()
            await self._probe()
            try:
                return await receive()
            except BadRequest as error:
                error.shared = False  # the API has just answered
                raise

        (contents, sink), attempts = await self._read(f"the linked file {place}", once)
        return Fetched(contents, sink, attempts)

    async def rows_of(self, path: str, what: str, shape: Shape, owner: int) -> list[Attachment]:
        """Return the attachments in a list that also holds their contents, which are passed over.

        Raises UnexpectedReply when the list is of another ``owner``, PartialReply as all lists do.
        """
        self.requests["lists"] += 1

        def check(found: list[tuple[Contents, HashSink]]) -> list[Attachment]:
            if stranger := next((o for o, _ in found if o.attachment.post_id != owner), None):
                raise UnexpectedReply(
                    f"the reply for {what} names the owner {stranger.attachment.post_id} instead"
                )
            return [one.attachment for one, _ in found]

        async def once() -> list[Attachment]:
            how = {"post_id": owner, "shape": shape, "rows_only": True}
            return await self._stream(path, what, HashSink, check, **how)

        return (await self._read(what, once))[0]

    async def spool(self, path: str, what: str, check: Callable[[IO[bytes]], None]) -> IO[bytes]:
        """Return a temporary file with the reply to a list of any length, which ``check`` passed.

        The caller closes it. Raises NotFound when the helpdesk has no such app.
        """
        self.requests["lists"] += 1

        async def once() -> IO[bytes]:
            file: IO[bytes] = SpooledTemporaryFile(max_size=BLOCK)  # noqa: SIM115 - the caller's

            def take(block: bytes) -> Awaitable[None]:
                return in_pool(self._pool, partial(_put, file, block))

            def end(rest: bytes) -> None:
                _put(file, rest)
                check(file)

            try:
                rest = await self._transport.stream(path, what=what, take=take)
                with self._heeding():
                    await in_pool(self._pool, partial(end, rest))
            except BaseException as error:
                file.close()
                if isinstance(error, OSError):
                    raise TooLarge(f"{what}: no room for the reply: {error.strerror}.") from error
                odd = isinstance(error, UnexpectedReply | BadRequest) and error
                if odd and replies.offers_none(odd):
                    raise NotFound(f"this helpdesk does not offer {what}") from error
                raise
            return file

        return (await self._read(what, once))[0]

    async def field_definitions(self) -> Definitions:
        """Return how many custom fields tickets have; NotFound where there is no such call."""
        what = "the definitions of custom fields"

        def close(reader: FieldsReader[HashSink]) -> Definitions:
            reader.finish()
            return reader.definitions

        self.requests["others"] += 1
        try:
            return (await self._fields("/Base/CustomField", what, HashSink, close))[0]
        except (UnexpectedReply, BadRequest) as error:
            if replies.offers_none(error):
                raise NotFound(f"{what}: the helpdesk does not offer them") from error
            raise

    async def custom_fields(self, ticket_id: int, copy: CopySink | None = None) -> CustomFields:
        """Return the custom fields of a ticket; a merged one still answers with its own.

        The reply holds all files, too, of which only the hashes are kept. All of it goes into
        ``copy`` as it comes. One with text among its groups may lack some: it is asked for once
        more.
        """
        path, what = f"{_FIELDS}/{ticket_id}", f"the custom fields of ticket {ticket_id}"

        def close(reader: FieldsReader[HashSink]) -> tuple[CustomFields, bool]:
            reader.finish()
            found = fields_of(ticket_id, reader.fields, self._encoding, what=what)
            return found, reader.strays

        for _ in range(2):
            self.requests["lists"] += 1
            (found, odd), _tries = await self._fields(path, what, HashSink, close, copy=copy)
            if not odd:
                break
        return found

    async def fetch_field(self, place: str, make_sink: Callable[[], S]) -> Fetched[S]:
        """Stream the file in a custom field into a sink, as :meth:`fetch` does.

        Nothing in the reply shows that it is whole or the right one.
        """
        ticket_id, field_id = parts_of(place)
        what = f"the file in field {field_id} of ticket {ticket_id}"

        def close(reader: FieldsReader[S]) -> tuple[Contents, S]:
            reader.finish()
            return file_of(place, reader.fields, self._encoding, what=what)

        self.requests["fetches"] += 1
        (contents, sink), attempts = await self._fields(
            f"{_FIELDS}/{ticket_id}", what, make_sink, close, wanted=field_id
        )
        return Fetched(contents, sink, attempts)

    async def _fields(
        self,
        path: str,
        what: str,
        make_sink: Callable[[], S],
        close: Callable[[FieldsReader[S]], T],
        *,
        wanted: int | None = None,
        copy: CopySink | None = None,
    ) -> tuple[T, int]:
        async def once() -> T:
            sinks: list[S] = []

            def make() -> S:
                sinks.append(make_sink())
                return sinks[-1]

            reader = FieldsReader(make, what=what, wanted=wanted)

            if copy is None:
                return await self._through(reader.feed, partial(close, reader), path, what, sinks)
            veil, passwords = Veil(self._credentials), PasswordVeil()
            copy.begin()

            def feed(block: bytes) -> None:
                reader.feed(block)
                copy.write(passwords.feed(veil.feed(block)))

            def end() -> T:
                copy.write(passwords.feed(veil.close(), final=True))
                result = close(reader)
                if passwords.fields < reader.passwords:
                    copy.begin()  # better none than one with a password
                return result

            return await self._through(feed, end, path, what, sinks, veil=veil)

        return await self._read(what, once)

    async def post_attachments(
        self, ticket_id: int, post_id: int, make_sink: Callable[[], S]
    ) -> list[tuple[Contents, S]]:
        """Stream all attachments of one post, a thousand at most, each into a sink of its own.

        Servers answer in one of two shapes, both read here. One reply holds the contents of all
        of them, so the pull prefers :meth:`fetch`.
        """
        path = f"/Tickets/TicketPost/ListAll/{ticket_id}/{post_id}"
        what = f"post {post_id} of ticket {ticket_id}"

        async def once() -> list[tuple[Contents, S]]:
            return await self._stream(
                path, what, make_sink, lambda all_: all_, ticket_id=ticket_id, post_id=post_id
            )

        return (await self._read(what, once, alone=False))[0]

    async def upload(self, ticket_id: int, post_id: int, filename: str, data: bytes) -> Attachment:
        """Add an attachment to a post; return the row that Kayako made for it."""
        what = f"the upload to post {post_id} of ticket {ticket_id}"
        form = {
            "ticketid": str(ticket_id),
            "ticketpostid": str(post_id),
            "filename": filename,
        }
        with self._scrubbed():
            body = await self._transport.post(
                "/Tickets/TicketAttachment", form, contents=data, what=what
            )
            made = lists.parse_attachments(body, what=what, ticket_id=ticket_id)
        if len(made) != 1:
            raise UnexpectedReply(f"the reply for {what} holds {len(made)} attachments")
        return made[0]

    async def delete_attachment(self, ticket_id: int, attachment_id: int) -> None:
        """Delete an attachment at the source, for good.

        Raises UnexpectedReply when the reply says anything: Kayako answers a success with
        nothing, while text at status 200 is what its uncaught exceptions look like.
        """
        what = f"the deletion of attachment {attachment_id} of ticket {ticket_id}"
        path = f"/Tickets/TicketAttachment/{ticket_id}/{attachment_id}"
        with self._scrubbed():
            body = await self._transport.delete(path, what=what)
            if body.strip():
                raise UnexpectedReply(
                    f"{what} may have failed: list the ticket's attachments to see. "
                    f"The server says: {replies.excerpt(body)}"
                )

    async def _probe(self) -> None:
        """Make one light request, once, even while others are held back."""
        what = "the ticket statuses"
        body = await self._transport.get(STATUSES, what=what, urgent=True)
        with suppress(PartialReply):  # an answer all the same
            lists.parse_statuses(body, what=what)

    async def _ask(
        self, kind: str, path: str, what: str, parse: _Parse[T], *, alone: bool = True
    ) -> T:
        """Request a list, and parse it."""
        self.requests[kind] += 1

        async def once() -> T:
            try:
                return await attempt()
            except SourceError as error:
                # Its frames would keep the reply while the next attempt waits.
                error.__context__ = None
                raise error.with_traceback(None)  # noqa: B904

        async def attempt() -> T:
            async with self._transport.listed(path, what=what) as body:
                with self._heeding():
                    if len(body) <= AT_ONCE:
                        return parse(body, what=what)
                    async with self._parsing:  # it needs a multiple of its size meanwhile
                        return await in_pool(self._pool, partial(parse, body, what=what))

        return (await self._read(what, once, alone=alone))[0]

    async def _read(
        self, what: str, once: Callable[[], Awaitable[T]], *, alone: bool = True
    ) -> tuple[T, int]:
        """Return the result of a read and the number of its tries.

        Raises BadRequest for a request that is refused ``alone``, as by a firewall, while others
        are answered: nothing else has to stop for it.
        """
        try:
            with self._scrubbed():
                return await self._retrying(what, once)
        except SourceRefused as error:
            if not alone:
                raise
            if not (self._patient and self._breaker.answers):  # else it was probed just now
                try:
                    await self._probe()
                except SourceError:
                    raise error from None
            refusal = BadRequest(f"{str(error).rstrip('.')}; other questions are answered")
            refusal.attempts = error.attempts
            raise refusal from error

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Slow down when a reply with status 200 turns out to tell of an overload."""
        try:
            yield
        except Throttled:
            self._pacer.overloaded(self._pacer.clock())
            raise

    @contextmanager
    def _scrubbed(self) -> Iterator[None]:
        """Hide the keys in errors, which quote replies, which may quote our own request."""
        try:
            yield
        except SourceError as error:
            scrub = self._credentials.scrub
            error.args = (scrub(str(error)),)
            if isinstance(error, PartialReply):
                error.problems = tuple(map(scrub, error.problems))
            raise

    async def _stream(
        self,
        path: str,
        what: str,
        make_sink: Callable[[], S],
        check: Callable[[list[tuple[Contents, S]]], T],
        **how: Any,
    ) -> T:
        """Stream a reply with contents through a reader, which is told ``how``."""
        sinks: list[S] = []

        def make() -> S:
            sinks.append(make_sink())
            return sinks[-1]

        reader = ContentsReader(make, what=what, **how)
        return await self._through(reader.feed, lambda: check(reader.close()), path, what, sinks)

    async def _through(
        self,
        feed: Callable[[bytes], None],
        close: Callable[[], T],
        path: str,
        what: str,
        sinks: Sequence[FetchSink],
        *,
        veil: Veil | None = None,
    ) -> T:
        """Feed a reply as it comes, and return what closing gives; abort the sinks otherwise."""

        def take(block: bytes) -> Awaitable[None]:
            return in_pool(self._pool, partial(feed, block))

        def end(rest: bytes) -> T:
            feed(rest)
            return close()

        try:
            rest = await self._transport.stream(path, what=what, take=take, veil=veil)
            # By now the next request may start.
            with self._heeding():
                return await in_pool(self._pool, partial(end, rest))
        except BaseException:
            for sink in sinks:
                sink.abort()
            raise


class _Parse(Protocol[T_co]):
    def __call__(self, body: bytes, /, *, what: str) -> T_co: ...


def _copy(copy: CopySink, body: bytes) -> None:
    copy.begin()
    for start in range(0, len(body), BLOCK):
        copy.write(body[start : start + BLOCK])


def _put(file: IO[bytes], block: bytes) -> None:
    file.write(block)


def _ids(ids: Iterable[int]) -> str:
    return ",".join(str(one) for one in ids)


def _only(
    found: Sequence[tuple[Contents, S]], /, *, ticket_id: int, attachment_id: int, what: str
) -> tuple[Contents, S]:
    # A cache or a confused server may answer for another id.
    ids = [contents.attachment.id for contents, _ in found]
    if ids != [attachment_id]:
        raise UnexpectedReply(f"the reply for {what} holds {ids or 'no attachment'} instead")
    if (stranger := found[0][0].attachment.ticket_id) != ticket_id:
        raise UnexpectedReply(f"the reply for {what} names ticket {stranger} instead")
    return found[0]
