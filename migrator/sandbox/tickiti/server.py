"""Serves an install over HTTP/1.1 on a real socket, with its faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, Self

from migrator.sandbox.listener import Connection, Listener
from migrator.sandbox.tickiti import reads, writes
from migrator.sandbox.tickiti.asked import Ask
from migrator.sandbox.tickiti.faults import Faults, afterwards, conflict, in_front
from migrator.sandbox.tickiti.laravel import (
    HTML,
    Delivery,
    FileForm,
    Params,
    Refusal,
    Reply,
    Upload,
    invalid,
    page,
    parameters,
    reply,
)
from migrator.sandbox.tickiti.model import (
    MIB,
    ROLES,
    Attachment,
    Desk,
    Generation,
    Key,
    Limits,
    Mail,
    Response,
    Tag,
    Ticket,
    system_clock,
)

API: Final = "/api/v1/"
CONTROL: Final = "/sandbox"
LARGEST: Final = 64 * MIB
"""A request over this is not kept, whatever it is for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call: what runs, since when, and what it needs."""

    run: Callable[[Ask], Reply]
    since: Generation = Generation.JUNE
    ability: str | None = "tickets:read"
    role: str = "customer"
    keyed: bool = False


_WRITE: Final = "tickets:write"


def _write(run: Callable[[Ask], Reply], since: Generation, *, keyed: bool = False) -> Call:
    return Call(run, since, _WRITE, keyed=keyed)


_JUN, _UPL, _JUL, _OCT = Generation
CALLS: Final[dict[str, Call]] = {
    "token": Call(reads.token, _OCT, None),
    "idempotency_key": Call(writes.idempotency_key, ability=None),
    "tickets": _write(writes.create, _JUN, keyed=True),
    "tickets/respond": _write(writes.respond, _JUN, keyed=True),
    "tickets/close": _write(writes.close, _JUL, keyed=True),
    "tickets/participants/add": _write(writes.add_participants, _JUL, keyed=True),
    "tickets/participants/remove": _write(writes.remove_participants, _JUL, keyed=True),
    "tickets/attachment-upload": _write(writes.upload, _UPL),
    "tickets/response-update": _write(writes.update_response, _JUL),
    "tickets/response-delete": _write(writes.delete_response, _JUL),
    "tickets/attachment-delete": _write(writes.delete_attachment, _OCT),
    "tickets/delete": _write(writes.delete, _OCT),
    "tickets/restore": _write(writes.restore, _OCT),
    "tickets/show": Call(reads.show),
    "tickets/responses": Call(reads.responses),
    "tickets/response": Call(reads.response, _OCT),
    "tickets/attachment": Call(reads.attachment),
    "tickets/query": Call(reads.query_tickets),
    "tickets/responses/query": Call(reads.query_responses),
    "tickets/queues": Call(reads.queues, _OCT),
    "tickets/staff": Call(reads.staff, _OCT),
    "workflow/queues": Call(reads.workflow_queues, ability="workflow:read", role="admin"),
    "mail/sent-mail": Call(reads.sent_mail, ability="mail:read", role="admin"),
    "mail/sent-mail/search": Call(reads.search_sent_mail, ability="mail:read", role="admin"),
    "administration/storage/delete-orphaned": Call(
        writes.delete_orphaned, ability="administration:write", role="admin"
    ),
}


@dataclass(frozen=True, slots=True)
class Visit:
    """A request: the path below ``/api/v1/``, what it said, and the status of its answer."""

    path: str
    params: Params
    key: str | None
    status: int
    faults: frozenset[str]
    replayed: bool = False


@dataclass(slots=True)
class _Stored:
    """The answer that belongs to an idempotency key; None while it is made."""

    path: str
    payload: Any
    at: float
    answer: Reply | None = None


class Tickiti:
    """A simulated Tickiti, running in its own threads; a context manager.

    ``generation`` is one of ``june``, ``uploads``, ``july`` and ``october``. ``faults`` are names
    of ``FAULTS``, each with ``@N``, ``@N-M`` or ``%P`` behind it if it is not to hit the first
    call. ``port`` 0 takes any free one. ``rate`` is the number of requests a minute. Idempotency
    keys are forgotten after ``key_window`` seconds. Raises ValueError for an unknown fault or
    generation, OSError when the address cannot be bound.
    """

    def __init__(
        self,
        *,
        generation: str = "october",
        faults: Iterable[str] = (),
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        rate: int | None = None,
        key_window: float | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = system_clock,
    ) -> None:
        known = {one.name.lower(): one for one in Generation}
        if generation not in known:
            raise ValueError(f"unknown generation: {generation}; there are {', '.join(known)}")
        self.faults = Faults(faults, seed)
        self.desk = Desk(known[generation], seed, clock)
        self.limits = limits or Limits()
        self.key = self.desk.add_key()
        self.latency, self.rate, self.key_window = latency, rate, key_window
        self.address = (host, port)
        self._visits: list[Visit] = []
        self._stored: dict[str, _Stored] = {}
        self._turn = threading.Condition(threading.RLock())
        self._minute: tuple[int, int] = (0, 0)
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None

    # What is there

    @property
    def url(self) -> str:
        """The address of the install. Raises RuntimeError before start."""
        if self._http is None:
            raise RuntimeError("the sandbox server is not running")
        return f"http://{self.address[0]}:{self._http.server_address[1]}"

    @property
    def token(self) -> str:
        """An API key that may read and write tickets, and read sent mail."""
        return self.key.token

    @property
    def tickets(self) -> dict[int, Ticket]:
        """All tickets by number, deleted ones as well."""
        return self.desk.tickets

    @property
    def mails(self) -> list[Mail]:
        """Every mail that a real install would have sent by now."""
        return self.desk.mails

    @property
    def tags(self) -> list[Tag]:
        """Every tag that was read in a body."""
        return self.desk.tags

    @property
    def requests(self) -> list[Visit]:
        """Every request for the API so far, without tokens."""
        return list(self._visits)

    def add_ticket(self, subject: str, originator: str = "ann@example.com", **more: Any) -> Ticket:
        """Add a ticket with one response of its originator, mailing nobody."""
        with self._turn:
            body = more.pop("content", "<p>Please help.</p>")
            ticket = self.desk.add_ticket(subject, originator, **more)
            self.desk.write(ticket, ticket.originator_email, body, internal=False)
            return ticket

    def responses(self, ticket: int | Ticket) -> list[Response]:
        """Return the responses of a ticket that are not deleted, in the order they are shown."""
        with self._turn:
            return (self.desk.tickets[ticket] if isinstance(ticket, int) else ticket).shown

    def files(self, ticket: int | Ticket) -> list[Attachment]:
        """Return the files of all responses of a ticket."""
        return [file for one in self.responses(ticket) for file in one.attachments]

    def read(self, file: Attachment) -> bytes:
        """Return the bytes of a file as they are stored."""
        return (self.desk.folder / file.sha256).read_bytes()

    def add_key(self, *abilities: str, **more: Any) -> Key:
        """Make another API key."""
        with self._turn:
            return self.desk.add_key(abilities, **more)

    def forget_keys(self) -> None:
        """Forget all idempotency keys."""
        with self._turn:
            self._stored = {key: one for key, one in self._stored.items() if one.answer is None}

    @property
    def truth(self) -> dict[str, Any]:
        """What the install holds and did, as JSON can say it."""
        with self._turn:
            desk = self.desk
            tickets = {
                str(number): {
                    "subject": ticket.subject,
                    "status": ticket.status,
                    "deleted": ticket.deleted_at is not None,
                    "responses": [_told(one) for one in ticket.shown],
                }
                for number, ticket in sorted(desk.tickets.items())
            }
            return {
                "generation": desk.generation.name.lower(),
                "tickets": tickets,
                "mails": [asdict(one) for one in desk.mails],
                "tags": [asdict(one) for one in desk.tags],
                "requests": len(self._visits),
                "replayed": sum(one.replayed for one in self._visits),
                "faults": self.faults.happened,
            }

    # Running

    def start(self) -> Self:
        """Bind and serve until :meth:`stop`."""
        self._http = http = _Http(self.address, self)
        self.address = (self.address[0], http.server_address[1])  # the same one when it restarts
        self._thread = threading.Thread(
            target=http.serve_forever, args=(0.02,), name="sandbox", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop at once, dropping open connections; harmless when not running."""
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            with self._turn:
                self._http.stopping.set()
                self._turn.notify_all()
            self._http.drop_connections()
            self._http.server_close()
            self._http = self._thread = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        """Stop, and delete all files."""
        self.stop()
        self.desk.close()

    # Answering

    def hitting(self, path: str) -> frozenset[str]:
        """Count a call, and return the faults that hit it."""
        with self._turn:
            return self.faults.hitting(path) if path else frozenset()

    def handle(self, request: Request) -> Reply:
        """Answer a request."""
        if request.target == CONTROL:
            return self._control(request)
        if not request.path:
            return page(404, "Not Found")
        path, hits = request.path, request.hits
        answered: list[Any] = [{}, None, False]
        try:
            sent = self._answer(request, path, hits, answered)
        except Refusal as refusal:
            sent = refusal.reply
        finally:
            if request.upload is not None:
                request.upload.path.unlink(missing_ok=True)
        sent = afterwards(hits, sent)
        params, key, replayed = answered
        self._visits.append(Visit(path, params, key, sent.status, hits, replayed))
        return sent

    def _answer(
        self, request: Request, path: str, hits: frozenset[str], answered: list[Any]
    ) -> Reply:
        if (refused := self._too_large(request, hits)) is not None:
            return refused
        call = CALLS.get(path)
        host = request.headers.get("host", "")
        if (instead := in_front(hits, f"https://{host}{request.target}", self._soon())) is not None:
            return instead
        if call is None or call.since > self.desk.generation:
            raise Refusal(404, "not_found", f"The route api/v1/{path} could not be found.")
        if request.verb != "POST":
            text = f"The {request.verb} method is not supported for route api/v1/{path}."
            refusal = Refusal(405, "method_not_allowed", text)
            return replace(refusal.reply, headers=(("Allow", "POST"),))
        self._throttle()
        params, raw = parameters(request.body, request.headers.get("content-type", ""))
        answered[0] = params
        with self._turn:
            self._lose(hits, request)
            key = self._authorized(request, call)
        ask = Ask(path, params, raw, request.upload, key, hits, self.desk, self._limits(hits))
        if not call.keyed:
            with self._turn:
                return call.run(ask)
        answered[1] = request.headers.get("idempotency-key")
        return self._once(ask, call, answered)

    def _soon(self) -> str:
        return formatdate(self.desk.clock() + 1, usegmt=True)

    def _limits(self, hits: frozenset[str]) -> Limits:
        limits = self.limits
        if "proxy_413" in hits:
            limits = replace(limits, proxy=MIB)
        if "upload_limit" in hits:
            limits = replace(limits, upload_max=2 * MIB)
        if hits & {"post_limit", "post_limit_413", "post_limit_200"}:
            limits = replace(limits, post_max=8 * MIB)
        return limits

    def _too_large(self, request: Request, hits: frozenset[str]) -> Reply | None:
        """Refuse what a proxy or PHP finds too large; empty the request where PHP would."""
        limits = self._limits(hits)
        if limits.proxy is not None and request.size > limits.proxy:
            return page(413, "413 Request Entity Too Large")
        if request.upload is not None and limits.upload_max is not None:
            request.upload.error |= request.upload.size > limits.upload_max
        if limits.post_max is None or request.size <= limits.post_max:
            return None
        if "post_limit_200" in hits:
            text = "<br />\n<b>Warning</b>: POST Content-Length exceeds the limit in <b>Unknown</b>"
            return Reply(200, text.encode(), HTML)
        if "post_limit_413" in hits:
            return reply(413, {"message": "The POST data is too large."})
        if request.upload is not None:
            request.upload.path.unlink()
        request.body, request.upload = b"", None
        return None

    def _throttle(self) -> None:
        if self.rate is None:
            return
        now = self.desk.clock()
        with self._turn:
            minute, count = self._minute
            count = count + 1 if minute == int(now // 60) else 1
            self._minute = (int(now // 60), count)
        if count > self.rate:
            refusal = Refusal(429, "too_many_requests", "Too Many Attempts.")
            after = ("Retry-After", str(60 - int(now % 60)))
            refusal.reply = replace(refusal.reply, headers=(after,))
            raise refusal

    def _lose(self, hits: frozenset[str], request: Request) -> None:
        """Take a token or its ability away."""
        token = _bearer(request.headers)
        if token not in self.desk.keys:
            return
        if "token_revoked" in hits:
            del self.desk.keys[token]
        elif "ability_lost" in hits:
            key = self.desk.keys[token]
            self.desk.keys[token] = replace(
                key, abilities=key.abilities - {_WRITE} | {"tickets:read"}
            )

    def _authorized(self, request: Request, call: Call) -> Key:
        if call.run is writes.idempotency_key:
            return self.key
        key = self.desk.keys.get(_bearer(request.headers))
        if key is None:
            raise Refusal(401, "unauthenticated", "Unauthenticated.")
        either = {call.ability, (call.ability or "").replace(":read", ":write")}
        if call.ability is not None and not key.abilities & either:
            raise Refusal(403, "forbidden", "Invalid ability provided.")
        if ROLES.index(key.role) < ROLES.index(call.role):
            raise Refusal(403, "forbidden", "This action needs another role.")
        return key

    def _once(self, ask: Ask, call: Call, answered: list[Any]) -> Reply:
        """Run a call once for its key; give its answer again to the same request.

        A second request with the key waits for the first. Only answers of success are kept.
        """
        key, hits = answered[1], ask.faults
        if not key:
            raise invalid(idempotency_key="The Idempotency-Key header is required.")
        if len(key) > 255:
            raise invalid(idempotency_key="The Idempotency-Key must not exceed 255 characters.")
        with self._turn:
            if "key_forgotten" in hits:
                self.forget_keys()
            if (found := self._found(key)) is not None:
                if (found.path, found.payload) != (ask.path, ask.raw):
                    raise conflict()
                answered[2] = True
                return found.answer or page(500, "Server Error")
            self._stored[key] = stored = _Stored(ask.path, ask.raw, self.desk.clock())
            forgets = hits & {"lost_answer_and_key", "error_after_and_key"}
            try:
                if "stored_error" in hits:
                    stored.answer = page(500, "Server Error")
                    return stored.answer
                if "orphans_removed" in hits:
                    self.desk.drop_unused()
                self._pause(hits)
                answer = call.run(ask)
                stored.answer = None if forgets else answer
                return answer
            finally:
                if stored.answer is None:
                    del self._stored[key]
                self._turn.notify_all()

    def _pause(self, hits: frozenset[str]) -> None:
        """Let other requests in while this one takes its time before the write."""
        if "slow_write" in hits and self._http is not None:
            self._turn.wait_for(self._http.stopping.is_set, 0.5)

    def _found(self, key: str) -> _Stored | None:
        """Return what is stored for a key, once it is there."""
        while (found := self._stored.get(key)) is not None and found.answer is None:
            if self._http is None or self._http.stopping.is_set():
                raise Refusal(503, "unavailable", "Stopping.")
            self._turn.wait(0.05)
        window = float("inf") if self.key_window is None else self.key_window
        if found is not None and self.desk.clock() - found.at > window:
            del self._stored[key]
            return None
        return found

    def _control(self, request: Request) -> Reply:
        """Tell what is there; take other faults, or forget keys."""
        if request.verb == "POST":
            told, _ = parameters(request.body, "application/json")
            try:
                if "faults" in told:
                    with self._turn:
                        self.faults.clear()
                        self.faults.add(*told["faults"])
            except (TypeError, ValueError) as error:
                return reply(422, {"message": str(error)})
            if told.get("forget_keys"):
                self.forget_keys()
        return reply(200, self.truth)


def _told(one: Response) -> dict[str, Any]:
    files = [
        {"id": file.id, "name": file.name, "sha256": file.sha256, "file_size": file.file_size}
        for file in one.attachments
    ]
    return {
        "id": one.id,
        "created_by_email": one.created_by_email,
        "is_internal": one.is_internal,
        "is_audit_only": one.is_audit_only,
        "attachments": files,
    }


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class Request:
    """A request with the faults that hit it; ``size`` is that of the whole body."""

    verb: str
    target: str
    headers: Mapping[str, str]
    hits: frozenset[str] = frozenset()
    body: bytes = b""
    upload: Upload | None = None
    size: int = 0

    @property
    def path(self) -> str:
        """The path of the call; empty for requests that are not for the API."""
        target = self.target.partition("?")[0]
        return target.removeprefix(API).rstrip("/") if target.startswith(API) else ""


class _Http(Listener):
    """A listener that knows what answers."""

    def __init__(self, address: tuple[str, int], tickiti: Tickiti) -> None:
        self.tickiti = tickiti
        super().__init__(address, _Handler)


class _Handler(Connection):
    """Reads requests of one connection and sends what the install answers."""

    server_version = "nginx"
    server: _Http

    def serve(self) -> None:
        """Read a request and send what the install answers."""
        tickiti = self.server.tickiti
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        request.hits = tickiti.hitting(request.path)
        self._read_body(request, tickiti.desk.folder)
        self.server.stopping.wait(tickiti.latency)
        self._send(tickiti.handle(request))

    do_HEAD = do_PATCH = Connection.do_GET  # noqa: N815 - named by http.server

    def _read_body(self, request: Request, folder: Path) -> None:
        content_type = request.headers.get("content-type", "")
        form = None
        if content_type.lower().startswith("multipart/form-data"):
            form = FileForm(content_type, folder, LARGEST)
        kept = bytearray()
        try:
            for block in self._blocks():
                request.size += len(block)
                if "cut_request" in request.hits:
                    raise ConnectionError("a fault ends it")
                if form is not None:
                    form.feed(block)
                elif len(kept) <= LARGEST:
                    kept += block
        finally:
            request.upload = form.close() if form is not None else None
        request.body = bytes(kept)

    def _blocks(self) -> Iterator[bytes]:
        """Yield the body as it comes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := self._chunk():
                yield from self._exactly(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
            return
        length = self.headers.get("Content-Length", "0")
        yield from self._exactly(int(length) if length.isdigit() else 0)

    def _chunk(self) -> int:
        """Return the size of the next chunk."""
        try:
            return int(self.rfile.readline(100).split(b";")[0], 16)
        except ValueError:
            raise ConnectionError("no chunk") from None

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left:
            block = self.rfile.read(min(left, 1 << 16))
            if not block:
                raise ConnectionError("the client went away")
            left -= len(block)
            yield block

    def _send(self, sent: Reply) -> None:
        if sent.delivery is Delivery.HANGS:
            self.server.stopping.wait()
        if sent.delivery in {Delivery.LOST, Delivery.HANGS}:
            self.close_connection = True
            return
        self.send_response(sent.status)
        self.send_header("Content-Type", sent.content_type)
        self.send_header("Content-Length", str(len(sent.body)))
        for name, value in sent.headers:
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else sent.body
        if sent.delivery is Delivery.CUT:
            self.close_connection = True
            body = body[: len(body) // 2]
        elif sent.delivery is Delivery.SLOW:
            self.wfile.flush()
            self.server.stopping.wait(1)
        self.wfile.write(body)
